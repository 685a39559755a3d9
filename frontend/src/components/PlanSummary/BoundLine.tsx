import { useMessages } from "@/hooks/useMessages";
import type { Plan } from "@/types/api";
import classes from "./PlanSummary.module.css";

/** How sure the verdict is, and where that certainty comes from. */
export function BoundLine({ plan }: { plan: Plan }) {
  const { t, format } = useMessages();
  const { confidence = null, samples = 0, own_samples = 0 } = plan.bound;
  const share = confidence === null ? "" : format.percent(confidence);
  const runs = format.number(samples);
  const own = own_samples > 0 ? ` ${t.plan.boundOwn(format.number(own_samples), own_samples)}` : "";
  const sure = plan.verdict === "does_not_fit" ? t.plan.boundOver : t.plan.boundFits;
  return (
    <p className={classes.below} data-testid="bound">
      {confidence === null ? t.plan.boundUnknown : `${sure(share, runs)}${own}`}
      {` ${t.plan.memoryMethods[plan.memory_method]}`}
    </p>
  );
}
