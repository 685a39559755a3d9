import { useQuery } from "@tanstack/react-query";
import { useEffect, useRef } from "react";
import { jobsQuery } from "@/api/jobs";
import { useMessages } from "@/hooks/useMessages";
import { showNotice } from "@/lib/endNotices";
import { hasEnded } from "@/lib/progress";

/** Says when a training ends while the page is in the background. Jobs that had ended before are not announced. */
export function useEndNotices(): void {
  const { t } = useMessages();
  const { data: jobs } = useQuery({ ...jobsQuery, refetchIntervalInBackground: true });
  const running = useRef<Set<string>>(new Set());
  useEffect(() => {
    for (const job of jobs ?? []) {
      if (hasEnded(job.status) && running.current.has(job.job_id)) showNotice(job.name, t.jobs.status[job.status], job.job_id);
    }
    running.current = new Set((jobs ?? []).filter((job) => !hasEnded(job.status)).map((job) => job.job_id));
  }, [jobs, t]);
}
