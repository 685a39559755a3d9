import { useMessages } from "@/hooks/useMessages";
import type { Plan } from "@/types/api";
import classes from "./PlanSummary.module.css";

/** How sure the verdict is, and where that certainty comes from. */
export function BoundLine({ plan }: { plan: Plan }) {
  const { t, format } = useMessages();
  const { bound } = plan;
  if (!bound) return null;
  const share = bound.confidence === null ? "" : format.percent(bound.confidence);
  const runs = format.number(bound.samples);
  const own = bound.own_samples > 0 ? ` ${t.plan.boundOwn(format.number(bound.own_samples), bound.own_samples)}` : "";
  const sure = plan.verdict === "does_not_fit" ? t.plan.boundOver : t.plan.boundFits;
  return (
    <p className={classes.below} data-testid="bound">
      {bound.confidence === null ? t.plan.boundUnknown : `${sure(share, runs)}${own}`}
      {plan.memory_method && ` ${t.plan.memoryMethods[plan.memory_method]}`}
    </p>
  );
}
