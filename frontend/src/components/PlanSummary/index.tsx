import { Loader } from "@mantine/core";
import type { ReactNode } from "react";
import { Callout } from "@/components/Callout";
import { Facts, type Fact } from "@/components/Facts";
import { FIT_TONES } from "@/components/FitBadge";
import { MemoryBar } from "@/components/MemoryBar";
import { Pill } from "@/components/StatusPill";
import { useMessages } from "@/hooks/useMessages";
import type { Plan } from "@/types/api";
import { BoundLine } from "./BoundLine";
import { NoticeList } from "./NoticeList";
import { TimeRange } from "./TimeRange";
import classes from "./PlanSummary.module.css";

interface PlanSummaryProps {
  plan: Plan;
  updating?: boolean;
  /** What can be done about the plan; follows the warnings. */
  children?: ReactNode;
}

/** Memory, time and decisions before anything is spent. */
export function PlanSummary({ plan, updating = false, children }: PlanSummaryProps) {
  const { t, format } = useMessages();
  const facts: Fact[] = [
    { label: t.plan.steps, value: format.number(plan.steps), hint: t.common.labelled(t.plan.effective, format.number(plan.effective_batch_size)) },
    {
      label: t.plan.rows,
      value: format.number(plan.train_rows + plan.heldout_rows),
      hint: t.plan.rowsSplit(format.number(plan.train_rows), format.number(plan.heldout_rows)),
    },
  ];
  if (plan.cut_rows_share > 0) {
    facts.push({
      label: t.plan.cutRows,
      value: format.share(plan.cut_rows_share),
      hint: t.plan.cutTokens(format.share(plan.cut_tokens_share)),
    });
  }
  return (
    <div className={classes.plan} aria-busy={updating} data-testid="plan">
      <div className={classes.head}>
        <Pill tone={FIT_TONES[plan.verdict]}>{t.fitLong[plan.verdict]}</Pill>
        {updating && (
          <span className={classes.computing}>
            <Loader size={14} aria-hidden="true" />
            {t.plan.computing}
          </span>
        )}
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
        <BoundLine plan={plan} />
      </div>
      <TimeRange plan={plan} />
      <Facts facts={facts} />
      {plan.warnings.map((warning, index) => (
        <Callout key={index} tone="warn" title={warning.message}>
          {warning.hint}
        </Callout>
      ))}
      {children}
      {plan.reasons.length > 0 && (
        <div>
          <p className={classes.caption}>{t.plan.reasons}</p>
          <NoticeList notices={plan.reasons} />
        </div>
      )}
    </div>
  );
}
