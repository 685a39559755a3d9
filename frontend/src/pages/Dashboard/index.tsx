import { Button, Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { jobsQuery } from "@/api/jobs";
import { EmptyState } from "@/components/EmptyState";
import { ErrorNotice } from "@/components/ErrorNotice";
import { FlowSteps } from "@/components/FlowSteps";
import { Icon } from "@/components/Icon";
import { JobList } from "@/components/JobList";
import { JobMonitor } from "@/components/JobMonitor";
import { PageHeader } from "@/components/PageHeader";
import { Panel } from "@/components/Panel";
import { useDocumentTitle } from "@/hooks/useDocumentTitle";
import { useMessages } from "@/hooks/useMessages";
import { hasEnded } from "@/lib/progress";
import type { Job } from "@/types/api";
import classes from "./Dashboard.module.css";

/** The job that is asked for, else the one that runs, else the newest. */
function pickJob(jobs: Job[], wanted: string | undefined): string | undefined {
  if (wanted !== undefined) return wanted;
  const live = jobs.filter((job) => !hasEnded(job.status));
  return (live.find((job) => job.status !== "queued") ?? live[0] ?? jobs[0])?.job_id;
}

/** Step 3: watch the training, then test the model. */
export function Dashboard({ jobId }: { jobId: string | undefined }) {
  const { t } = useMessages();
  const { data: jobs, error, refetch } = useQuery(jobsQuery);
  useDocumentTitle(t.jobs.title);
  const chosen = pickJob(jobs ?? [], jobId);

  return (
    <>
      <FlowSteps current="train" />
      <PageHeader
        title={t.jobs.title}
        lead={t.jobs.lead}
        action={
          jobs &&
          jobs.length > 0 && (
            <Button variant="default" renderRoot={(props) => <Link to="/upload" {...props} />}>
              {t.jobs.newOne}
            </Button>
          )
        }
      />
      {error && !jobs && <ErrorNotice error={error} onRetry={() => void refetch()} />}
      {!jobs && !error && <Skeleton height={320} radius="lg" aria-label={t.app.loading} />}
      {jobs?.length === 0 && chosen === undefined && (
        <Panel>
          <EmptyState
            icon="chart"
            title={t.jobs.none}
            hint={t.jobs.noneHint}
            action={<Button renderRoot={(props) => <Link to="/upload" {...props} />}>{t.jobs.first}</Button>}
          />
        </Panel>
      )}
      {chosen !== undefined && jobs && (
        <div className={classes.columns}>
          <JobMonitor
            key={chosen}
            jobId={chosen}
            pageTitle={t.jobs.title}
            more={
              <Button
                variant="subtle"
                rightSection={<Icon name="arrow" size={16} />}
                renderRoot={(props) => <Link to="/jobs/$jobId" params={{ jobId: chosen }} {...props} />}
              >
                {t.jobs.details}
              </Button>
            }
          />
          <section className={classes.list}>
            <h2>{t.jobs.list}</h2>
            <JobList newest={jobs} chosen={chosen} />
          </section>
        </div>
      )}
    </>
  );
}
