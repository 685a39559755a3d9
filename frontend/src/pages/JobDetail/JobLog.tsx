import { Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { logQuery } from "@/api/jobs";
import { CommandBlock } from "@/components/CommandBlock";
import { Panel } from "@/components/Panel";
import { useMessages } from "@/hooks/useMessages";

/** The end of the trainer's own log. */
export function JobLog({ jobId }: { jobId: string }) {
  const { t } = useMessages();
  const { data: log } = useQuery(logQuery(jobId));
  if (!log) return null;
  return (
    <Panel title={t.job.log}>
      {log.text ? <CommandBlock title="trainer.log" command={log.text} /> : <Text c="dimmed">{t.job.noLog}</Text>}
    </Panel>
  );
}
