import { Button, Group, Skeleton, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { lazy, Suspense, useState, type ReactNode } from "react";
import { HELDOUT_LOSS, LOSS, useFollowJob } from "@/api/jobEvents";
import { jobQuery, metricQuery } from "@/api/jobs";
import { ChatCompare } from "@/components/ChatCompare";
import { ErrorNotice } from "@/components/ErrorNotice";
import { Icon } from "@/components/Icon";
import { JobMoves } from "@/components/JobMoves";
import { JobStats } from "@/components/JobStats";
import { Panel } from "@/components/Panel";
import { StatusPill } from "@/components/StatusPill";
import { useDocumentTitle } from "@/hooks/useDocumentTitle";
import { useMessages } from "@/hooks/useMessages";
import { hasEnded } from "@/lib/progress";
import type { Series } from "@/lib/series";
import { Outcome } from "./Outcome";
import { ProgressLine } from "./ProgressLine";
import classes from "./JobMonitor.module.css";

const ProgressCurve = lazy(() => import("@/components/ProgressCurve"));
const NO_POINTS: Series = { steps: [], values: [] };

interface JobMonitorProps {
  jobId: string;
  /** A link to more, shown beside the other actions. */
  more?: ReactNode;
  /** The page's title when nothing runs. */
  pageTitle: string;
  /** Show the whole report. */
  details?: boolean;
}

/** One job, live: progress, numbers, curve, the way it ended, and the test of its model. */
export function JobMonitor({ jobId, more, pageTitle, details = false }: JobMonitorProps) {
  const { t, format } = useMessages();
  const { data: job, error, refetch } = useQuery(jobQuery(jobId));
  const { data: loss = NO_POINTS } = useQuery(metricQuery(jobId, LOSS));
  const { data: heldout = NO_POINTS } = useQuery(metricQuery(jobId, HELDOUT_LOSS));
  const [testing, setTesting] = useState(false);
  useFollowJob(jobId, job?.status, job?.last_seq);
  const running = job && !hasEnded(job.status);
  useDocumentTitle(running ? t.jobs.titleRunning(format.percent(job.progress.fraction), job.name) : pageTitle);

  if (error && !job) return <ErrorNotice error={error} onRetry={() => void refetch()} />;
  if (!job) return <Skeleton height={420} radius="lg" aria-label={t.app.loading} />;

  // A name that was not given says the same already.
  const made = `${job.model_name} · ${job.dataset_name}`;
  return (
    <div className={classes.monitor} data-testid="job" data-job={job.job_id} data-status={job.status}>
      <Panel>
        <div className={classes.parts}>
          <div className={classes.head}>
            <div className={classes.names}>
              <Title order={2}>{job.name}</Title>
              <Text size="sm" c="dimmed">
                {job.name !== made && `${made} · `}
                {format.dateTime(job.created_at)}
              </Text>
            </div>
            <StatusPill status={job.status} />
          </div>
          {running && <ProgressLine job={job} />}
          <Outcome job={job} details={details} />
          <JobStats job={job} />
          <Group gap="xs">
            {job.can_chat && (
              <Button
                leftSection={<Icon name="chat" />}
                variant={testing ? "default" : "filled"}
                aria-expanded={testing}
                onClick={() => setTesting(!testing)}
              >
                {testing ? t.jobs.hideTest : t.jobs.test}
              </Button>
            )}
            <JobMoves job={job} />
            {more}
          </Group>
        </div>
      </Panel>
      {testing && job.can_chat && <ChatCompare jobId={job.job_id} datasetId={job.dataset_id} />}
      <Panel title={t.curve.title} hint={t.curve.hint}>
        <Suspense fallback={<Skeleton height={300} radius="md" />}>
          <ProgressCurve training={loss} heldout={heldout} />
        </Suspense>
      </Panel>
    </div>
  );
}
