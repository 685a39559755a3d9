/** Follows a running job: every event once and in order, across lost connections. */
import { useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { jobPath, jobQuery, jobsQuery, metricQuery } from "@/api/jobs";
import { applyEvent, hasEnded } from "@/lib/progress";
import { withPoint } from "@/lib/series";
import type { JobEvent, JobStatus } from "@/types/api";

const RECONNECT_MS = 2_000;
/** Names under which the server keeps the two curves. */
export const LOSS = "loss";
export const HELDOUT_LOSS = "heldout_loss";

/** After these the server is asked again: they change more than `applyEvent` knows. */
const ASKED_AFTER: ReadonlySet<JobEvent["kind"]> = new Set(["status_changed", "job_failed", "noted"]);

/** Opens the stream after `after` and opens it again when the server gives it up. Returns how to stop. */
export function followJob(id: string, after: number, onEvent: (event: JobEvent) => void): () => void {
  let last = after;
  let source: EventSource | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const receive = (message: MessageEvent<string>): void => {
    const event = JSON.parse(message.data) as JobEvent;
    const seq = event.seq ?? 0;
    if (seq <= last) return;
    last = seq;
    onEvent(event);
  };
  const open = (): void => {
    source = new EventSource(`${jobPath(id)}/events?after=${last}`);
    source.onmessage = receive;
    source.onerror = () => {
      // The browser reconnects by itself with Last-Event-ID, unless the answer was an error: then it gives up.
      if (source?.readyState === EventSource.CLOSED) timer = setTimeout(open, RECONNECT_MS);
    };
  };
  open();
  return () => {
    clearTimeout(timer);
    source?.close();
  };
}

/** Keeps the cached job and its curves current while it runs; asks for the final answer when it ends. */
export function useFollowJob(id: string, status: JobStatus | undefined, lastSeq: number | undefined): void {
  const client = useQueryClient();
  const live = status !== undefined && !hasEnded(status);
  const ready = lastSeq !== undefined;

  useEffect(() => {
    if (!live || !ready) return undefined;
    const after = client.getQueryData(jobQuery(id).queryKey)?.last_seq ?? 0;
    return followJob(id, after, (event) => {
      client.setQueryData(jobQuery(id).queryKey, (job) => job && applyEvent(job, event));
      client.setQueryData(jobsQuery.queryKey, (jobs) =>
        jobs?.map((job) => (job.job_id === id ? applyEvent(job, event) : job)),
      );
      if (event.kind === "step_logged" || event.kind === "eval_logged") {
        const name = event.kind === "step_logged" ? LOSS : HELDOUT_LOSS;
        client.setQueryData(metricQuery(id, name).queryKey, (curve) => curve && { ...curve, ...withPoint(curve, event.step, event.loss) });
      }
      if (ASKED_AFTER.has(event.kind)) void client.invalidateQueries({ queryKey: ["jobs"] });
    });
  }, [client, id, live, ready]);
}
