import { Button } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { jobPagesQuery, NEWEST_JOBS } from "@/api/jobs";
import { ErrorNotice } from "@/components/ErrorNotice";
import { StatusPill } from "@/components/StatusPill";
import { useMessages } from "@/hooks/useMessages";
import { hasEnded, mergeJobs } from "@/lib/progress";
import type { Job } from "@/types/api";
import classes from "./JobList.module.css";

/** The newest jobs, then all others as they are asked for; the chosen one is marked. */
export function JobList({ newest, chosen }: { newest: Job[]; chosen: string | undefined }) {
  const { t, format } = useMessages();
  const [all, setAll] = useState(false);
  const pages = useInfiniteQuery({ ...jobPagesQuery, enabled: all });
  const jobs = all ? mergeJobs(newest, pages.data?.pages.flat() ?? []) : newest;
  const more = all ? pages.hasNextPage || !pages.data : newest.length === NEWEST_JOBS;
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
      {pages.error && <ErrorNotice error={pages.error} onRetry={() => void pages.refetch()} />}
      {more && (
        <Button
          variant="default"
          fullWidth
          mt={8}
          loading={pages.isLoading || pages.isFetchingNextPage}
          onClick={() => (all ? void pages.fetchNextPage() : setAll(true))}
        >
          {t.jobs.older}
        </Button>
      )}
    </nav>
  );
}
