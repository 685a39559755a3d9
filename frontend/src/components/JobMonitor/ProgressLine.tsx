import { Progress, VisuallyHidden } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { queuedQuery } from "@/api/jobs";
import { useMessages } from "@/hooks/useMessages";
import { countAhead } from "@/lib/progress";
import type { Messages } from "@/locales/en";
import type { Job } from "@/types/api";
import classes from "./JobMonitor.module.css";

/** Screen readers hear every tenth, not every step. */
const TENTHS = 10;

const isPhase = <T extends object>(phase: string | null, phases: T): phase is Extract<keyof T, string> =>
  phase !== null && phase in phases;

/** Say what a job does, or what it waits for. */
function labelOf({ status, progress }: Job, ahead: number, t: Messages): string {
  if (status === "queued") return ahead > 0 ? t.jobs.queuedBehind(ahead) : t.jobs.queuedHint;
  if (status === "paused") return t.jobs.pausedHint;
  if (status === "starting" && !progress.phase) return t.jobs.startingHint;
  return isPhase(progress.phase, t.jobs.phases) ? t.jobs.phases[progress.phase] : t.jobs.status[status];
}

/** What is happening now, and how far it has come. */
export function ProgressLine({ job }: { job: Job }) {
  const { t, format } = useMessages();
  const { progress: p, status } = job;
  const total = p.phase === "downloading" ? (p.download_total_bytes ?? 0) : 0;
  const done = p.download_done_bytes ?? 0;
  const share = total > 0 ? done / total : p.fraction;
  const { data: waiting = [] } = useQuery({ ...queuedQuery, enabled: status === "queued" });
  const label = labelOf(job, countAhead(waiting, job), t);
  const left = p.eta_seconds === null || total > 0 ? undefined : t.jobs.about(format.estimate(p.eta_seconds));

  return (
    <div>
      <div className={classes.phase}>
        <span>{label}</span>
        <span className="numbers">{total > 0 ? t.jobs.downloaded(format.bytes(done), format.bytes(total)) : format.percent(share)}</span>
      </div>
      <Progress.Root size={10} radius="xl">
        <Progress.Section
          value={share * 100}
          animated={status === "running"}
          aria-label={t.jobs.progressLabel}
          aria-valuetext={left ? t.jobs.announced(format.percent(share), left) : format.percent(share)}
        />
      </Progress.Root>
      <VisuallyHidden role="status">{`${label} ${format.percent(Math.floor(share * TENTHS) / TENTHS)}`}</VisuallyHidden>
    </div>
  );
}
