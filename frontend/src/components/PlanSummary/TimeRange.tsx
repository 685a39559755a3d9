import { useMessages } from "@/hooks/useMessages";
import type { Plan } from "@/types/api";
import classes from "./PlanSummary.module.css";

/** The time that half of such trainings need, and the time that nine of ten need. */
export function TimeRange({ plan }: { plan: Plan }) {
  const { t, format } = useMessages();
  const [half, most] = [format.estimate(plan.seconds_p50), format.estimate(plan.seconds_p90)];
  return (
    <div data-testid="time">
      <p className={classes.figure}>
        <strong>{half === most ? t.jobs.about(half) : t.plan.timeRange(half, most)}</strong>
      </p>
      <span className={classes.track} aria-hidden="true">
        <span style={{ width: `${(plan.seconds_p50 / plan.seconds_p90) * 100}%` }} />
      </span>
      <p className={classes.below}>
        {t.plan.timeHint} {t.plan.timeMethods[plan.time_method]}
        {plan.comparison_seconds > 0 && ` ${t.plan.comparisonTime(format.estimate(plan.comparison_seconds))}`}
      </p>
    </div>
  );
}
