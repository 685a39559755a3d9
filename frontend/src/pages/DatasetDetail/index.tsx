import { Button, Group, Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { datasetQuery, useDeleteDataset } from "@/api/datasets";
import { ConfirmButton } from "@/components/ConfirmButton";
import { DatasetOverview } from "@/components/DatasetOverview";
import { ErrorNotice } from "@/components/ErrorNotice";
import { Icon } from "@/components/Icon";
import { PageHeader } from "@/components/PageHeader";
import { useDocumentTitle } from "@/hooks/useDocumentTitle";
import { useMessages } from "@/hooks/useMessages";

const PAGE_SIZE = 10;

/** One data set: what is in it, and what the model will read. */
export function DatasetDetail({ datasetId, row }: { datasetId: string; row?: number | undefined }) {
  const { t } = useMessages();
  const navigate = useNavigate();
  const { data: dataset, error, refetch } = useQuery(datasetQuery(datasetId));
  const remove = useDeleteDataset();
  useDocumentTitle(dataset?.name ?? t.dataset.title);

  if (error && !dataset) {
    return (
      <>
        <PageHeader title={t.dataset.title} />
        <ErrorNotice error={error} onRetry={() => void refetch()} />
      </>
    );
  }
  if (!dataset) return <Skeleton height={420} radius="lg" aria-label={t.app.loading} />;
  return (
    <>
      <PageHeader
        title={t.dataset.title}
        action={
          <Group gap="xs">
            <ConfirmButton
              leftSection={<Icon name="trash" />}
              question={t.dataset.deleteAsk(dataset.name)}
              hint={t.dataset.deleteHint}
              confirm={t.common.delete}
              loading={remove.isPending}
              onConfirm={() => remove.mutate(datasetId, { onSuccess: () => void navigate({ to: "/upload", search: {} }) })}
            >
              {t.common.delete}
            </ConfirmButton>
            <Button
              rightSection={<Icon name="arrow" />}
              renderRoot={(props) => <Link to="/training" search={{ dataset: datasetId }} {...props} />}
            >
              {t.upload.configure}
            </Button>
          </Group>
        }
      />
      {remove.error && <ErrorNotice error={remove.error} />}
      <DatasetOverview
        key={`${datasetId} ${dataset.content_hash}`}
        dataset={dataset}
        pageSize={PAGE_SIZE}
        row={row}
        onVersion={(version, at) => void navigate({ to: "/datasets/$datasetId", params: { datasetId: version.dataset_id }, search: { row: at } })}
      />
    </>
  );
}
