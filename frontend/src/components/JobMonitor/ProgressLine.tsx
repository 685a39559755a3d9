import { Progress, VisuallyHidden } from "@mantine/core";
import { useMessages } from "@/hooks/useMessages";
import type { Job } from "@/types/api";
import classes from "./JobMonitor.module.css";

/** Screen readers hear every tenth, not every step. */
const TENTHS = 10;

const isPhase = <T extends object>(phase: string | null, phases: T): phase is Extract<keyof T, string> =>
  phase !== null && phase in phases;

/** What is happening now, and how far it has come. */
export function ProgressLine({ job }: { job: Job }) {
  const { t, format } = useMessages();
  const { progress: p, status } = job;
  const total = p.phase === "downloading" ? (p.download_total_bytes ?? 0) : 0;
  const done = p.download_done_bytes ?? 0;
  const share = total > 0 ? done / total : p.fraction;
  const known = isPhase(p.phase, t.jobs.phases) ? t.jobs.phases[p.phase] : t.jobs.status[status];
  const label = status === "queued" ? t.jobs.queuedHint : status === "starting" && !p.phase ? t.jobs.startingHint : known;
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
