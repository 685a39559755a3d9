import { Callout } from "@/components/Callout";
import { ReportCard } from "@/components/ReportCard";
import { useMessages } from "@/hooks/useMessages";
import type { Job } from "@/types/api";
import classes from "./JobMonitor.module.css";

/** How a training ended: what it changed, or why it failed and what to do. */
export function Outcome({ job, details }: { job: Job; details: boolean }) {
  const { t } = useMessages();
  if (job.status === "succeeded") return <ReportCard jobId={job.job_id} details={details} />;
  if (job.status === "cancelled") return <Callout tone="neutral">{t.jobs.cancelled}</Callout>;
  if (job.status !== "failed" || !job.error) return null;
  const { message, hint, evidence } = job.error;
  return (
    <Callout tone="bad" role="alert" title={t.jobs.failed(message)}>
      <p>{hint}</p>
      {evidence && (
        <details className={classes.evidence}>
          <summary>{t.jobs.evidence}</summary>
          <pre>{evidence}</pre>
        </details>
      )}
    </Callout>
  );
}
