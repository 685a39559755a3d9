import { Button, Group, Skeleton, Stack } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { datasetsQuery, nameImport, useSampleDataset, useUploadDataset } from "@/api/datasets";
import { DatasetOverview } from "@/components/DatasetOverview";
import { EmptyState } from "@/components/EmptyState";
import { ErrorNotice } from "@/components/ErrorNotice";
import { FileDrop, type SendingFile } from "@/components/FileDrop";
import { FlowSteps } from "@/components/FlowSteps";
import { Icon } from "@/components/Icon";
import { PageHeader } from "@/components/PageHeader";
import { Panel } from "@/components/Panel";
import { useDocumentTitle } from "@/hooks/useDocumentTitle";
import { useMessages } from "@/hooks/useMessages";
import type { Dataset } from "@/types/api";
import { DatasetTable } from "./DatasetTable";
import { FormatExamples } from "./FormatExamples";

/** Step 1: a file comes in, and the reader sees what was understood before going on. */
export function Upload({ datasetId, row }: { datasetId: string | undefined; row?: number | undefined }) {
  const { t } = useMessages();
  const navigate = useNavigate();
  const datasets = useQuery(datasetsQuery);
  const upload = useUploadDataset();
  const sample = useSampleDataset();
  const [sending, setSending] = useState<SendingFile>();
  const [stopping, setStopping] = useState<() => void>(() => () => undefined);
  useDocumentTitle(t.upload.title);

  const shown = datasetId === undefined ? undefined : datasets.data?.find(({ dataset_id }) => dataset_id === datasetId);
  const earlier = datasets.data?.filter(({ dataset_id }) => dataset_id !== datasetId) ?? [];

  const show = (dataset: Dataset, at?: number): void => void navigate({ to: "/upload", search: { dataset: dataset.dataset_id, row: at } });
  const take = (file: File): void => {
    const stop = new AbortController();
    setStopping(() => () => stop.abort());
    const importId = nameImport();
    setSending({ name: file.name, importId, sent: 0, total: file.size, perSecond: 0 });
    upload.mutate(
      { file, importId, signal: stop.signal, onProgress: (sent) => setSending({ name: file.name, importId, ...sent }) },
      {
        onSuccess: (dataset) => show(dataset),
        onError: (error) => error.name === "AbortError" && upload.reset(),
        onSettled: () => setSending(undefined),
      },
    );
  };

  return (
    <>
      <FlowSteps current="data" />
      <PageHeader
        title={t.upload.title}
        lead={t.upload.lead}
        action={
          shown && (
            <Button
              size="md"
              rightSection={<Icon name="arrow" />}
              renderRoot={(props) => <Link to="/training" search={{ dataset: shown.dataset_id }} {...props} />}
            >
              {t.upload.configure}
            </Button>
          )
        }
      />
      <Stack gap="md">
        {upload.error && <ErrorNotice error={upload.error} />}
        {sample.error && <ErrorNotice error={sample.error} />}
        {shown && !sending ? (
          <>
            <DatasetOverview key={`${shown.dataset_id} ${shown.content_hash}`} dataset={shown} row={row} onVersion={show} />
            <Group justify="space-between">
              <Button variant="default" renderRoot={(props) => <Link to="/upload" search={{}} {...props} />}>
                {t.upload.another}
              </Button>
              <Button
                size="md"
                rightSection={<Icon name="arrow" />}
                renderRoot={(props) => <Link to="/training" search={{ dataset: shown.dataset_id }} {...props} />}
              >
                {t.upload.configure}
              </Button>
            </Group>
          </>
        ) : (
          <>
            <FileDrop onFile={take} sending={sending} onStop={stopping} />
            <Button
              variant="subtle"
              loading={sample.isPending}
              disabled={sending !== undefined}
              onClick={() => sample.mutate(undefined, { onSuccess: (dataset) => show(dataset) })}
            >
              {t.upload.sample}
            </Button>
            <FormatExamples />
          </>
        )}
        {(!shown || earlier.length > 0) && (
          <Panel title={t.upload.earlier}>
            {datasets.error && !datasets.data && <ErrorNotice error={datasets.error} onRetry={() => void datasets.refetch()} />}
            {datasets.isPending && <Skeleton height={80} radius="md" aria-label={t.app.loading} />}
            {datasets.data?.length === 0 && <EmptyState icon="file" title={t.upload.none} hint={t.upload.noneHint} />}
            {earlier.length > 0 && <DatasetTable datasets={earlier} />}
          </Panel>
        )}
      </Stack>
    </>
  );
}
