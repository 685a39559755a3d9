import type { ReactNode } from "react";
import { Icon, type IconName } from "@/components/Icon";
import type { Tone } from "@/components/StatusPill";
import classes from "./Callout.module.css";

const ICONS: Record<Tone, IconName> = { good: "check", warn: "warning", bad: "warning", info: "info", neutral: "info" };

interface CalloutProps {
  tone: Tone;
  title?: ReactNode;
  children?: ReactNode;
  action?: ReactNode;
  /** Announce to screen readers at once (alert) or when idle (status). */
  role?: "alert" | "status";
}

/** A sentence that should not be missed: what happened, what to do. */
export function Callout({ tone, title, children, action, role }: CalloutProps) {
  return (
    <div className={classes.callout} data-tone={tone} role={role}>
      <span className={classes.icon}>
        <Icon name={ICONS[tone]} />
      </span>
      <div className={classes.body}>
        {title && <p className={classes.title}>{title}</p>}
        {children && <div className={classes.text}>{children}</div>}
        {action && <div className={classes.action}>{action}</div>}
      </div>
    </div>
  );
}
