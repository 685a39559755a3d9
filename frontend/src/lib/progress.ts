/** Applies a live event to what the server answered last: the same projection as the server's, so that both agree. */
import type { Job, JobEvent, JobProgress, JobStatus } from "@/types/api";

const ENDED: readonly JobStatus[] = ["succeeded", "failed", "cancelled"];
const CANCELLABLE: readonly JobStatus[] = ["queued", "starting", "running", "pausing", "paused"];

const PAUSABLE: readonly JobStatus[] = ["starting", "running"];
const CONTINUABLE: readonly JobStatus[] = ["failed", "cancelled"];

export const hasEnded = (status: JobStatus): boolean => ENDED.includes(status);
export const canCancel = (status: JobStatus): boolean => CANCELLABLE.includes(status);

export const canPause = (status: JobStatus): boolean => PAUSABLE.includes(status);
export const canContinue = (status: JobStatus): boolean => CONTINUABLE.includes(status);

/** How many waiting jobs start before this one: those of a higher priority, and older ones of the same. Newest first in `jobs`. */
export function countAhead(jobs: readonly Job[], job: Job): number {
  const place = jobs.findIndex((other) => other.job_id === job.job_id);
  const isAhead = (other: Job, at: number): boolean =>
    other.status === "queued" && (other.priority > job.priority || (other.priority === job.priority && at > place));
  return place < 0 ? 0 : jobs.filter((other, at) => at !== place && isAhead(other, at)).length;
}

/** Every job once, newest first: the newest as they are now, and before and after them what only the pages know. */
export function mergeJobs(newest: readonly Job[], pages: readonly Job[]): Job[] {
  const fresh = new Set(newest.map((job) => job.job_id));
  return [...newest, ...pages.filter((job) => !fresh.has(job.job_id))];
}

function progressAfter(progress: JobProgress, event: JobEvent): JobProgress {
  switch (event.kind) {
    case "phase_started":
      return { ...progress, phase: event.phase };
    case "download_progressed":
      return { ...progress, download_done_bytes: event.done_bytes, download_total_bytes: event.total_bytes };
    case "step_logged":
      return {
        ...progress,
        step: event.step,
        total_steps: event.total_steps,
        fraction: event.total_steps > 0 ? event.step / event.total_steps : 0,
        epoch: event.epoch,
        loss: event.loss,
        learning_rate: event.learning_rate,
        tokens: event.tokens,
        tokens_per_second: event.tokens_per_second,
        peak_bytes: event.peak_bytes,
        eta_seconds: event.eta_seconds,
      };
    case "eval_logged":
      return {
        ...progress,
        heldout_loss: event.loss,
        heldout_loss_before: event.step === 0 ? event.loss : progress.heldout_loss_before,
      };
    default:
      return progress;
  }
}

/** The job after `event`. An event that was already counted changes nothing. */
export function applyEvent<T extends Job>(job: T, event: JobEvent): T {
  const seq = event.seq ?? 0;
  if (seq <= job.last_seq) return job;
  const status = event.kind === "status_changed" ? event.status : event.kind === "job_failed" ? "failed" : job.status;
  const priority = event.kind === "priority_changed" ? event.priority : job.priority;
  return { ...job, status, priority, last_seq: seq, progress: progressAfter(job.progress, event) };
}
