import { useMessages } from "@/hooks/useMessages";
import type { JobStatus } from "@/types/api";
import classes from "./StatusPill.module.css";

export type Tone = "good" | "warn" | "bad" | "info" | "neutral";

const TONES: Record<JobStatus, Tone> = {
  queued: "neutral",
  starting: "info",
  running: "info",
  pausing: "neutral",
  paused: "neutral",
  cancelling: "neutral",
  succeeded: "good",
  failed: "bad",
  cancelled: "neutral",
};

/** A short word on a tinted ground. */
export function Pill({ tone, children, live = false }: { tone: Tone; children: string; live?: boolean }) {
  return (
    <span className={classes.pill} data-tone={tone}>
      <span className={classes.dot} data-live={live || undefined} aria-hidden="true" />
      {children}
    </span>
  );
}

/** Where a job stands, in a word. */
export function StatusPill({ status }: { status: JobStatus }) {
  const { t } = useMessages();
  return (
    <Pill tone={TONES[status]} live={status === "running" || status === "starting"}>
      {t.jobs.status[status]}
    </Pill>
  );
}
