import { Facts, type Fact } from "@/components/Facts";
import { useMessages } from "@/hooks/useMessages";
import { useNow } from "@/hooks/useNow";
import { hasEnded } from "@/lib/progress";
import type { JobDetail } from "@/types/api";

const LOSS_DIGITS = 3;

/** The numbers of a run: where it stands, how well it learns, what it costs. */
export function JobStats({ job }: { job: JobDetail }) {
  const { t, format } = useMessages();
  const { progress: p } = job;
  const ended = hasEnded(job.status);
  const since = job.working_since;
  const now = useNow(since !== null);
  const facts: Fact[] = [];
  const add = (label: string, value: string | null, hint?: string): void => {
    if (value !== null) facts.push({ label, value, hint });
  };
  const loss = (value: number | null): string | null => (value === null ? null : format.number(value, LOSS_DIGITS));

  if (p.total_steps > 0) add(t.jobs.step, t.common.of(format.number(p.step), format.number(p.total_steps)));
  if (!ended && p.eta_seconds !== null) add(t.jobs.eta, t.jobs.about(format.estimate(p.eta_seconds)));
  if (p.epoch !== null) add(t.jobs.epoch, format.number(p.epoch, 1));
  add(t.jobs.loss, loss(p.loss));
  const before = loss(p.heldout_loss_before);
  add(t.jobs.heldout, loss(p.heldout_loss), before === null ? undefined : t.jobs.heldoutBefore(before));
  if (!ended && p.learning_rate !== null) add(t.jobs.rate, format.small(p.learning_rate));
  if (p.tokens_per_second !== null) {
    const seen = p.tokens === null ? undefined : t.common.labelled(t.jobs.tokens, format.compact(p.tokens));
    add(t.jobs.speed, t.jobs.speedValue(format.number(p.tokens_per_second)), seen);
  }
  if (p.peak_bytes !== null) add(t.jobs.peak, format.bytes(p.peak_bytes));
  if (since !== null || job.worked_seconds > 0) {
    const running = since === null ? 0 : Math.max(0, (now - Date.parse(since)) / 1000);
    add(t.jobs.elapsed, format.duration(job.worked_seconds + running));
  }

  return facts.length > 0 ? <Facts large facts={facts} /> : null;
}
