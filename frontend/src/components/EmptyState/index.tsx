import type { ReactNode } from "react";
import { Icon, type IconName } from "@/components/Icon";
import classes from "./EmptyState.module.css";

/** Nothing here yet: why, and the one thing to do. */
export function EmptyState({ icon, title, hint, action }: { icon: IconName; title: string; hint: string; action?: ReactNode }) {
  return (
    <div className={classes.empty}>
      <span className={classes.icon}>
        <Icon name={icon} size={26} />
      </span>
      <p className={classes.title}>{title}</p>
      <p className={classes.hint}>{hint}</p>
      {action}
    </div>
  );
}
