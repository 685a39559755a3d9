import { Button, Select, Skeleton, Stack } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { jobsQuery } from "@/api/jobs";
import { ChatCompare } from "@/components/ChatCompare";
import { EmptyState } from "@/components/EmptyState";
import { ErrorNotice } from "@/components/ErrorNotice";
import { PageHeader } from "@/components/PageHeader";
import { Panel } from "@/components/Panel";
import { useDocumentTitle } from "@/hooks/useDocumentTitle";
import { useMessages } from "@/hooks/useMessages";

/** Talk to any model that was tuned here. */
export function Playground({ jobId }: { jobId: string | undefined }) {
  const { t, format } = useMessages();
  const navigate = useNavigate();
  const { data: jobs, error, refetch } = useQuery(jobsQuery);
  useDocumentTitle(t.playground.title);
  const tuned = jobs?.filter((job) => job.can_chat) ?? [];
  const chosen = tuned.find((job) => job.job_id === jobId) ?? tuned[0];

  return (
    <>
      <PageHeader title={t.playground.title} lead={t.playground.lead} />
      {error && !jobs && <ErrorNotice error={error} onRetry={() => void refetch()} />}
      {!jobs && !error && <Skeleton height={240} radius="lg" aria-label={t.app.loading} />}
      {jobs && !chosen && (
        <Panel>
          <EmptyState
            icon="chat"
            title={t.playground.none}
            hint={t.playground.noneHint}
            action={<Button renderRoot={(props) => <Link to="/upload" {...props} />}>{t.playground.start}</Button>}
          />
        </Panel>
      )}
      {chosen && (
        <Stack gap="md">
          <Select
            label={t.playground.choose}
            size="md"
            maw={560}
            allowDeselect={false}
            checkIconPosition="right"
            value={chosen.job_id}
            onChange={(id) => id !== null && void navigate({ to: "/playground", search: { job: id }, replace: true })}
            data={tuned.map((job) => ({ value: job.job_id, label: `${job.name} (${format.dateTime(job.created_at)})` }))}
          />
          <ChatCompare key={chosen.job_id} jobId={chosen.job_id} datasetId={chosen.dataset_id} />
        </Stack>
      )}
    </>
  );
}
