import { Loader } from "@mantine/core";
import { Callout } from "@/components/Callout";
import { Facts } from "@/components/Facts";
import { FIT_TONES } from "@/components/FitBadge";
import { MemoryBar } from "@/components/MemoryBar";
import { Pill } from "@/components/StatusPill";
import { useMessages } from "@/hooks/useMessages";
import type { Plan } from "@/types/api";
import { NoticeList } from "./NoticeList";
import classes from "./PlanSummary.module.css";

/** Memory, time and decisions before anything is spent. */
export function PlanSummary({ plan, updating = false }: { plan: Plan; updating?: boolean }) {
  const { t, format } = useMessages();
  return (
    <div className={classes.plan} aria-busy={updating} data-testid="plan">
      <div className={classes.head}>
        <Pill tone={FIT_TONES[plan.verdict]}>{t.fitLong[plan.verdict]}</Pill>
        {updating && <Loader size={14} aria-hidden="true" />}
      </div>
      <div>
        <p className={classes.figure}>
          <strong>{format.bytes(plan.peak_bytes)}</strong>{" "}
          <span className={classes.hint}>
            {t.plan.peak.toLowerCase()}, {t.plan.upTo(format.bytes(plan.peak_bytes_upper))}
          </span>
        </p>
        <MemoryBar plan={plan} />
        <p className={classes.below}>{t.plan.available(format.bytes(plan.available_bytes), plan.device_name)}</p>
      </div>
      <Facts
        facts={[
          { label: t.plan.time, value: t.plan.timeRange(format.estimate(plan.seconds_p50), format.estimate(plan.seconds_p90)) },
          { label: t.plan.steps, value: format.number(plan.steps), hint: t.common.labelled(t.plan.effective, format.number(plan.effective_batch_size)) },
          {
            label: t.plan.rows,
            value: format.number(plan.train_rows + plan.heldout_rows),
            hint: t.plan.rowsSplit(format.number(plan.train_rows), format.number(plan.heldout_rows)),
          },
        ]}
      />
      {plan.warnings.map((warning, index) => (
        <Callout key={index} tone="warn" title={warning.message}>
          {warning.hint}
        </Callout>
      ))}
      {plan.alternatives.length > 0 && (
        <div>
          <p className={classes.caption}>{t.plan.alternatives}</p>
          <ul className={classes.notices}>
            {plan.alternatives.map((sentence) => (
              <li key={sentence}>{sentence}</li>
            ))}
          </ul>
        </div>
      )}
      {plan.reasons.length > 0 && (
        <div>
          <p className={classes.caption}>{t.plan.reasons}</p>
          <NoticeList notices={plan.reasons} />
        </div>
      )}
    </div>
  );
}
