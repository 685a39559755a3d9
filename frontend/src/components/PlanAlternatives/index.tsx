import { Button } from "@mantine/core";
import { FitBadge } from "@/components/FitBadge";
import { useMessages } from "@/hooks/useMessages";
import { showOption } from "@/lib/optionText";
import type { Alternative, Plan } from "@/types/api";
import classes from "./PlanAlternatives.module.css";

interface AlternativeLineProps {
  alternative: Alternative;
  plan: Plan;
  onApply: (changes: Record<string, unknown>) => void;
}

function AlternativeLine({ alternative, plan, onApply }: AlternativeLineProps) {
  const { t, format } = useMessages();
  const labels: Record<string, string> = t.options;
  const change = Object.entries(alternative.changes)
    .map(([name, value]) => t.common.labelled(labels[name] ?? name, showOption(value, t, format.small)))
    .join(", ");
  return (
    <li className={classes.line} data-kind={alternative.kind}>
      <div className={classes.head}>
        <strong>{alternative.kind === "runner_up" ? t.plan.runnerUp : change}</strong>
        {alternative.verdict !== plan.verdict && <FitBadge verdict={alternative.verdict} />}
      </div>
      {alternative.kind === "runner_up" && <p className={classes.change}>{change}</p>}
      <p className={classes.price}>
        <span data-better={alternative.seconds_p50 < plan.seconds_p50 || undefined}>
          {t.plan.timeRange(format.estimate(alternative.seconds_p50), format.estimate(alternative.seconds_p90))}
        </span>
        <span data-better={alternative.peak_bytes < plan.peak_bytes || undefined}>{format.bytes(alternative.peak_bytes)}</span>
      </p>
      {alternative.message && <p className={classes.reason}>{alternative.message}</p>}
      <Button size="compact-sm" variant="default" aria-label={t.plan.applyLabel(change)} onClick={() => onApply(alternative.changes)}>
        {t.plan.apply}
      </Button>
    </li>
  );
}

/** The second-best plan and what each knob would cost or bring; one click takes it over. */
export function PlanAlternatives({ plan, onApply }: { plan: Plan; onApply: (changes: Record<string, unknown>) => void }) {
  const { t } = useMessages();
  if (plan.alternatives.length === 0) return null;
  return (
    <details className={classes.all} data-testid="alternatives" open={plan.verdict === "does_not_fit"}>
      <summary>{t.plan.alternatives}</summary>
      <ul className={classes.list}>
        {plan.alternatives.map((alternative, index) => (
          <AlternativeLine key={index} alternative={alternative} plan={plan} onApply={onApply} />
        ))}
      </ul>
    </details>
  );
}
