import { Stack, Text } from "@mantine/core";
import { Callout } from "@/components/Callout";
import { DatasetFacts } from "@/components/DatasetFacts";
import { MappingEditor } from "@/components/MappingEditor";
import { Panel } from "@/components/Panel";
import { ProblemList } from "@/components/ProblemList";
import { RowPreview } from "@/components/RowPreview";
import { TokenTruth } from "@/components/TokenTruth";
import { useMessages } from "@/hooks/useMessages";
import type { Dataset } from "@/types/api";

/** All that was understood of a file: numbers, columns, problems, rows. */
export function DatasetOverview({ dataset, pageSize = 3 }: { dataset: Dataset; pageSize?: number }) {
  const { t, format } = useMessages();
  const { problem_count: problems } = dataset;
  return (
    <Stack gap="md" data-testid="dataset">
      <Panel title={dataset.name} hint={t.common.labelled(t.upload.imported, format.dateTime(dataset.created_at))}>
        <DatasetFacts dataset={dataset} />
        <Text size="sm" c="dimmed" mt="md">
          {t.dataset.heldoutHint}
        </Text>
        {dataset.notices.length > 0 && (
          <Stack gap="xs" mt="md">
            {dataset.notices.map((notice) => (
              <Callout key={notice} tone="info">
                {notice}
              </Callout>
            ))}
          </Stack>
        )}
      </Panel>
      <Panel title={t.mapping.title}>
        <MappingEditor dataset={dataset} />
      </Panel>
      <Panel title={t.dataset.problems} hint={problems > 0 && t.dataset.problemCount(format.number(problems), problems)}>
        <ProblemList problems={dataset.problems} total={problems} />
      </Panel>
      <Panel title={t.dataset.preview} hint={t.dataset.previewHint}>
        <RowPreview datasetId={dataset.dataset_id} pageSize={pageSize} />
      </Panel>
      <TokenTruth dataset={dataset} />
    </Stack>
  );
}
