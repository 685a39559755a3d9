import { Anchor, Button, Group, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { capsulePath, jobQuery } from "@/api/jobs";
import { CommandBlock } from "@/components/CommandBlock";
import { ConfigTable } from "@/components/ConfigTable";
import { Exports } from "@/components/Exports";
import { JobMonitor } from "@/components/JobMonitor";
import { PageHeader } from "@/components/PageHeader";
import { Panel } from "@/components/Panel";
import { PlanSummary } from "@/components/PlanSummary";
import { NoticeList } from "@/components/PlanSummary/NoticeList";
import { useMessages } from "@/hooks/useMessages";
import { CompareJobs } from "./CompareJobs";
import { JobLog } from "./JobLog";
import { RunAgain } from "./RunAgain";

/** Everything about one job: progress, what was decided, how to repeat it, where the result is. */
export function JobDetail({ jobId }: { jobId: string }) {
  const { t } = useMessages();
  const { data: job } = useQuery(jobQuery(jobId));
  const labels: Record<string, string> = { config: t.job.config, cli: t.job.cli, curl: t.job.curl, python: t.job.python };

  return (
    <>
      <PageHeader
        title={job?.name ?? t.jobs.title}
        action={
          <Group gap="xs">
            {job && <RunAgain request={job.request} />}
            <Button variant="default" renderRoot={(props) => <Link to="/dashboard" search={{ job: jobId }} {...props} />}>
              {t.job.backToDashboard}
            </Button>
          </Group>
        }
      />
      <Stack gap="md">
        <JobMonitor jobId={jobId} pageTitle={job?.name ?? t.jobs.title} details />
        {job && (
          <>
            {job.can_chat && <Exports jobId={jobId} />}
            {job.notices.length > 0 && (
              <Panel title={t.job.notices}>
                <NoticeList notices={job.notices} />
              </Panel>
            )}
            <Panel title={t.job.configuration}>
              <ConfigTable resolved={job.plan.resolved} />
            </Panel>
            <Panel title={t.plan.title}>
              <PlanSummary plan={job.plan} />
            </Panel>
            <Panel title={t.job.reproduce} hint={t.job.reproduceHint}>
              {Object.entries(job.commands).map(([name, command]) => (
                <CommandBlock key={name} title={labels[name] ?? name} command={command} />
              ))}
              <Text size="sm">
                <Anchor href={capsulePath(jobId)} download>
                  {t.job.capsule}
                </Anchor>
              </Text>
            </Panel>
            <CompareJobs job={job} />
            {job.adapter_path && (
              <Panel title={t.job.result} hint={t.job.resultHint}>
                <Text className="wrap" ff="monospace" size="sm">
                  {job.adapter_path}
                </Text>
              </Panel>
            )}
            <JobLog jobId={jobId} />
          </>
        )}
      </Stack>
    </>
  );
}
