import type { ReactNode } from "react";
import classes from "./Facts.module.css";

export interface Fact {
  label: string;
  value: ReactNode;
  hint?: ReactNode;
}

/** Labelled values in a grid that wraps. */
export function Facts({ facts, large = false, wide = false }: { facts: Fact[]; large?: boolean; wide?: boolean }) {
  return (
    <dl className={classes.facts} data-large={large || undefined} data-wide={wide || undefined}>
      {facts.map(({ label, value, hint }) => (
        <div key={label}>
          <dt>{label}</dt>
          <dd>{value}</dd>
          {hint && <dd className={classes.hint}>{hint}</dd>}
        </div>
      ))}
    </dl>
  );
}
