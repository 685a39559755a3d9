/** Jobs: list, read, start, cancel, curves, report. */
import { infiniteQueryOptions, queryOptions, useMutation, useQueryClient } from "@tanstack/react-query";
import { get, post, put } from "@/api/client";
import { hasEnded } from "@/lib/progress";
import type { Checkpoint, Job, JobDetail, JobLog, MetricPoints, Report, StartedJob, StartFinetuningRequest } from "@/types/api";

/** Enough for a sharp curve on a wide screen. */
const CURVE_POINTS = 800;
const BUSY_MS = 4_000;
const IDLE_MS = 20_000;
export const NEWEST_JOBS = 100;
/** The server lists no more at once. */
const MOST_JOBS = 200;

export const jobPath = (id: string): string => `/api/jobs/${encodeURIComponent(id)}`;

export const jobsQuery = queryOptions({
  queryKey: ["jobs"],
  queryFn: async ({ signal }) => (await get<{ jobs: Job[] }>(`/api/jobs?limit=${NEWEST_JOBS}`, signal)).jobs,
  refetchInterval: (query) => (query.state.data?.some((job) => !hasEnded(job.status)) ? BUSY_MS : IDLE_MS),
});

/** All jobs, newest first, a page at a time. Asked anew more rarely than the newest ones: it reads every page again. */
export const jobPagesQuery = infiniteQueryOptions({
  queryKey: ["jobs", "pages"],
  queryFn: async ({ pageParam, signal }) => {
    const after = pageParam === undefined ? "" : `&after=${encodeURIComponent(pageParam)}`;
    return (await get<{ jobs: Job[] }>(`/api/jobs?limit=${MOST_JOBS}${after}`, signal)).jobs;
  },
  initialPageParam: undefined as string | undefined,
  getNextPageParam: (page) => (page.length === MOST_JOBS ? page.at(-1)?.job_id : undefined),
  refetchInterval: IDLE_MS,
});

/** The jobs that wait: those among the newest are not all. */
export const queuedQuery = queryOptions({
  queryKey: ["jobs", "queued"],
  queryFn: async ({ signal }) => (await get<{ jobs: Job[] }>(`/api/jobs?status=queued&limit=${MOST_JOBS}`, signal)).jobs,
  refetchInterval: BUSY_MS,
});

export const jobQuery = (id: string) =>
  queryOptions({ queryKey: ["jobs", id], queryFn: ({ signal }) => get<JobDetail>(jobPath(id), signal) });

export const metricQuery = (id: string, name: string) =>
  queryOptions({
    queryKey: ["jobs", id, "metrics", name],
    queryFn: ({ signal }) => get<MetricPoints>(`${jobPath(id)}/metrics?name=${name}&points=${CURVE_POINTS}`, signal),
  });

export const reportQuery = (id: string) =>
  queryOptions({ queryKey: ["jobs", id, "report"], queryFn: ({ signal }) => get<Report>(`${jobPath(id)}/report`, signal) });

export const reportPagePath = (id: string, language: string): string => `${jobPath(id)}/report.html?language=${language}`;
export const capsulePath = (id: string): string => `${jobPath(id)}/capsule`;
export const reportJsonPath = (id: string): string => `${jobPath(id)}/report`;

export const checkpointsQuery = (id: string) =>
  queryOptions({
    queryKey: ["jobs", id, "checkpoints"],
    queryFn: async ({ signal }) => (await get<{ checkpoints: Checkpoint[] }>(`${jobPath(id)}/checkpoints`, signal)).checkpoints,
  });

export const logQuery = (id: string) =>
  queryOptions({ queryKey: ["jobs", id, "logs"], queryFn: ({ signal }) => get<JobLog>(`${jobPath(id)}/logs`, signal) });

export function useStartJob() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (request: StartFinetuningRequest) => post<StartedJob>("/api/start-finetuning", request),
    onSuccess: () => client.invalidateQueries({ queryKey: jobsQuery.queryKey, exact: true }),
  });
}

export type Move = "pause" | "resume" | "cancel" | "next";

/** Pause, resume or cancel a job, or let it start before every other one that waits. */
export function useMoveJob(id: string) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (move: Move) =>
      move === "next" ? put<unknown>(`${jobPath(id)}/priority`, { priority: move }) : post<unknown>(`${jobPath(id)}/${move}`),
    onSettled: () => client.invalidateQueries({ queryKey: ["jobs"] }),
  });
}

/** Start a job that goes on from a checkpoint of one that failed or was cancelled. */
export function useContinueJob(job: Job) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (checkpoint: string) =>
      post<StartedJob>("/api/start-finetuning", {
        dataset_id: job.dataset_id,
        model_name: job.model_id,
        resume_from: { job_id: job.job_id, checkpoint },
      }),
    onSuccess: () => client.invalidateQueries({ queryKey: jobsQuery.queryKey, exact: true }),
  });
}
