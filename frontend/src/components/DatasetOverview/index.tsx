import { Stack, Text } from "@mantine/core";
import { useState } from "react";
import { Callout } from "@/components/Callout";
import { DatasetFacts } from "@/components/DatasetFacts";
import { Findings } from "@/components/Findings";
import { MappingEditor } from "@/components/MappingEditor";
import { Panel } from "@/components/Panel";
import { ProblemList } from "@/components/ProblemList";
import { RowPreview, type WantedRow } from "@/components/RowPreview";
import { TokenTruth } from "@/components/TokenTruth";
import { Versions } from "@/components/Versions";
import { useMessages } from "@/hooks/useMessages";
import type { Dataset } from "@/types/api";

interface DatasetOverviewProps {
  dataset: Dataset;
  pageSize?: number;
  /** The row to show first. */
  row?: number | undefined;
  /** A new version was made; the row to look at, where there is one. */
  onVersion: (version: Dataset, row?: number) => void;
}

/** All that was understood of a file: numbers, columns, problems, findings, rows, versions. */
export function DatasetOverview({ dataset, pageSize = 3, row, onVersion }: DatasetOverviewProps) {
  const { t, format } = useMessages();
  const [wanted, setWanted] = useState<WantedRow | undefined>(() => startingAt(row, dataset));
  const { problem_count: problems } = dataset;
  const showRow = (asked: number): void => setWanted({ row: asked });
  return (
    <Stack gap="md" data-testid="dataset">
      <Panel title={dataset.name} hint={t.common.labelled(t.upload.imported, format.dateTime(dataset.created_at))}>
        <DatasetFacts dataset={dataset} />
        <Text size="sm" c="dimmed" mt="md">
          {t.dataset.heldoutHint}
        </Text>
        {dataset.notices.length + dataset.remarks.length > 0 && (
          <Stack gap="xs" mt="md">
            {dataset.remarks.map(({ code, message, hint }) => (
              <Callout key={`${code} ${message}`} tone="info">
                {message} {hint}
              </Callout>
            ))}
            {dataset.notices.map((notice) => (
              <Callout key={notice} tone="info">
                {notice}
              </Callout>
            ))}
          </Stack>
        )}
      </Panel>
      <Panel title={t.mapping.title}>
        <MappingEditor dataset={dataset} onVersion={onVersion} />
      </Panel>
      <Panel title={t.dataset.problems} hint={problems > 0 && t.dataset.problemCount(format.number(problems), problems)}>
        <ProblemList dataset={dataset} onRow={showRow} onVersion={onVersion} />
      </Panel>
      <Findings dataset={dataset} onRow={showRow} onVersion={onVersion} />
      <Panel title={t.dataset.preview} hint={t.dataset.previewHint}>
        <RowPreview dataset={dataset} pageSize={pageSize} wanted={wanted} onVersion={onVersion} />
      </Panel>
      <TokenTruth dataset={dataset} />
      <Versions dataset={dataset} />
    </Stack>
  );
}

/** The row of an address, which may be older than the data. Rows that could not be read are gone from a version, which moves the others. */
function startingAt(row: number | undefined, { rows_in_file, changes }: Dataset): WantedRow | undefined {
  if (row === undefined || rows_in_file === 0 || changes.some(({ code }) => code === "unread_rows")) return undefined;
  return { row: Math.min(Math.max(1, row), rows_in_file) };
}
