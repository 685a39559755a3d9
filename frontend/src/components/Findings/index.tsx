import { Loader, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { analysisQuery, useFixDataset } from "@/api/versions";
import { ErrorNotice } from "@/components/ErrorNotice";
import { Icon } from "@/components/Icon";
import { Panel } from "@/components/Panel";
import { useMessages } from "@/hooks/useMessages";
import type { Dataset } from "@/types/api";
import { FindingItem } from "./FindingItem";
import classes from "./Findings.module.css";

interface FindingsProps {
  dataset: Dataset;
  onRow: (row: number) => void;
  onVersion: (version: Dataset) => void;
}

/** What a second look at the rows found; each with a fix that makes a new version and keeps this one. */
export function Findings({ dataset, onRow, onVersion }: FindingsProps) {
  const { t, format, language } = useMessages();
  const { data, error, refetch } = useQuery(analysisQuery(dataset.dataset_id));
  const fix = useFixDataset(dataset.dataset_id);
  const names = new Intl.DisplayNames([language], { type: "language" });
  const languages = Object.entries(data?.languages ?? {});
  return (
    <Panel title={t.findings.title} hint={t.findings.hint}>
      <Stack gap="sm" data-testid="findings" data-state={data?.state}>
        {error && !data && <ErrorNotice error={error} onRetry={() => void refetch()} />}
        {data?.state === "running" && (
          <p className={classes.fine} data-running role="status">
            <Loader size={14} /> {t.findings.running(format.percent(data.total_bytes ? data.done_bytes / data.total_bytes : 0))}
          </p>
        )}
        {data?.state === "failed" && <Text c="dimmed">{t.findings.failed}</Text>}
        {data?.state === "done" && data.findings.length === 0 && (
          <p className={classes.fine}>
            <Icon name="check" /> {t.findings.none}
          </p>
        )}
        {fix.error && <ErrorNotice error={fix.error} />}
        {data && data.findings.length > 0 && (
          <ul className={classes.list}>
            {data.findings.map((finding) => (
              <FindingItem
                key={finding.code}
                finding={finding}
                busy={fix.isPending && fix.variables.findings[0] === finding.code}
                disabled={fix.isPending}
                onRow={onRow}
                onFix={() => fix.mutate({ findings: [finding.code] }, { onSuccess: onVersion })}
              />
            ))}
          </ul>
        )}
        {languages.length > 0 && (
          <Text size="sm" c="dimmed">
            {t.findings.languages(languages.map(([code, rows]) => `${names.of(code) ?? code} ${format.number(rows)}`).join(", "))}
          </Text>
        )}
      </Stack>
    </Panel>
  );
}
