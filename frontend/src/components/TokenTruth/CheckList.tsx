import { Icon } from "@/components/Icon";
import { useMessages } from "@/hooks/useMessages";
import type { TokenCheck } from "@/types/api";
import classes from "./TokenTruth.module.css";

/** What was checked before a start; a row at fault is one click away. */
export function CheckList({ checks, onRow }: { checks: TokenCheck[]; onRow: (row: number) => void }) {
  const { t, format } = useMessages();
  return (
    <ul className={classes.checks} aria-label={t.tokens.checks}>
      {checks.map(({ check, status, message, hint, rows }) => (
        <li key={check} data-status={status}>
          <span className={classes.mark}>
            <Icon name={status === "passed" ? "check" : "warning"} />
          </span>
          <div>
            <p>
              {status !== "passed" && <strong>{t.tokens.status[status]}. </strong>}
              {message} {hint && <span className={classes.quiet}>{hint}</span>}
            </p>
            {rows.length > 0 && (
              <p className={classes.fault}>
                {t.tokens.atFault}{" "}
                {rows.map((row) => (
                  <button key={row} type="button" className={classes.link} onClick={() => onRow(row)}>
                    {format.number(row)}
                  </button>
                ))}
              </p>
            )}
          </div>
        </li>
      ))}
    </ul>
  );
}
