import { Button, Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { jobsQuery } from "@/api/jobs";
import { modelsQuery } from "@/api/models";
import { ChatPlayground } from "@/components/ChatPlayground";
import { EmptyState } from "@/components/EmptyState";
import { ErrorNotice } from "@/components/ErrorNotice";
import { PageHeader } from "@/components/PageHeader";
import { Panel } from "@/components/Panel";
import { useDocumentTitle } from "@/hooks/useDocumentTitle";
import { useMessages } from "@/hooks/useMessages";

/** Talk to any model that is here, beside any other. */
export function Playground({ jobId }: { jobId: string | undefined }) {
  const { t } = useMessages();
  const jobs = useQuery(jobsQuery);
  const models = useQuery(modelsQuery);
  useDocumentTitle(t.playground.title);
  const error = jobs.error ?? models.error;
  const loaded = jobs.data && models.data;
  const nobody = loaded && !jobs.data.some((job) => job.can_chat) && !models.data.some((model) => model.weights === "ready");

  return (
    <>
      <PageHeader title={t.playground.title} lead={t.playground.lead} />
      {error && !loaded && <ErrorNotice error={error} onRetry={() => void Promise.all([jobs.refetch(), models.refetch()])} />}
      {!loaded && !error && <Skeleton height={240} radius="lg" aria-label={t.app.loading} />}
      {nobody && (
        <Panel>
          <EmptyState
            icon="chat"
            title={t.playground.none}
            hint={t.playground.noneHint}
            action={<Button renderRoot={(props) => <Link to="/upload" {...props} />}>{t.playground.start}</Button>}
          />
        </Panel>
      )}
      {loaded && !nobody && <ChatPlayground models={models.data} jobs={jobs.data} jobId={jobId} />}
    </>
  );
}
