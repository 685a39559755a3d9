import { Icon } from "@/components/Icon";
import { useMessages } from "@/hooks/useMessages";
import classes from "./FlowSteps.module.css";

const STEPS = ["data", "configure", "train"] as const;

/** Where the reader is on the way from a file to a tested model. */
export function FlowSteps({ current }: { current: (typeof STEPS)[number] }) {
  const { t } = useMessages();
  const position = STEPS.indexOf(current);
  return (
    <ol className={classes.steps} aria-label={t.steps.label}>
      {STEPS.map((step, index) => (
        <li
          key={step}
          data-state={index < position ? "done" : index === position ? "current" : "ahead"}
          aria-current={index === position ? "step" : undefined}
        >
          <span className={classes.mark} aria-hidden="true">
            {index < position ? <Icon name="check" size={13} /> : index + 1}
          </span>
          <span className={classes.label}>{t.steps[step]}</span>
        </li>
      ))}
    </ol>
  );
}
