import { Link } from "@tanstack/react-router";
import { StatusPill } from "@/components/StatusPill";
import { useMessages } from "@/hooks/useMessages";
import { hasEnded } from "@/lib/progress";
import type { Job } from "@/types/api";
import classes from "./JobList.module.css";

/** All jobs, newest first; the chosen one is marked. */
export function JobList({ jobs, chosen }: { jobs: Job[]; chosen: string | undefined }) {
  const { t, format } = useMessages();
  return (
    <nav aria-label={t.jobs.list}>
      <ul className={classes.list}>
        {jobs.map((job) => (
          <li key={job.job_id}>
            <Link
              to="/dashboard"
              search={{ job: job.job_id }}
              className={classes.item}
              data-chosen={job.job_id === chosen || undefined}
              aria-current={job.job_id === chosen ? "true" : undefined}
            >
              <span className={classes.top}>
                <span className={classes.name}>{job.name}</span>
                <StatusPill status={job.status} />
              </span>
              <span className={classes.meta}>{format.dateTime(job.created_at)}</span>
              {!hasEnded(job.status) && (
                <span className={classes.track} aria-hidden="true">
                  <span style={{ width: `${job.progress.fraction * 100}%` }} />
                </span>
              )}
            </Link>
          </li>
        ))}
      </ul>
    </nav>
  );
}
