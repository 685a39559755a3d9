import { VisuallyHidden } from "@mantine/core";
import { FitBadge } from "@/components/FitBadge";
import { Icon } from "@/components/Icon";
import { useMessages } from "@/hooks/useMessages";
import type { Plan } from "@/types/api";
import classes from "./TrainingConfig.module.css";

/** On a narrow screen the plan stands below the choices; its gist stays in sight while they change. */
export function PlanStrip({ plan }: { plan: Plan | undefined }) {
  const { t, format } = useMessages();
  if (!plan) return null;
  return (
    <a className={classes.strip} href="#plan">
      <VisuallyHidden>{t.plan.title}</VisuallyHidden>
      <FitBadge verdict={plan.verdict} />
      <span className="numbers">
        {t.common.of(format.bytes(plan.peak_bytes), format.bytes(plan.available_bytes))} · {format.estimate(plan.seconds_p50)}
      </span>
      <Icon name="chevron" />
    </a>
  );
}
