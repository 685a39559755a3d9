import { Button } from "@mantine/core";
import { useState } from "react";
import { useMessages } from "@/hooks/useMessages";
import type { Finding } from "@/types/api";
import classes from "./Findings.module.css";

/** Rows shown before somebody asks for more. */
const SHOWN = 4;

interface FindingItemProps {
  finding: Finding;
  busy: boolean;
  disabled: boolean;
  onRow: (row: number) => void;
  onFix: () => void;
}

/** One finding: what it is, some of its rows to look at, and its fix. */
export function FindingItem({ finding, busy, disabled, onRow, onFix }: FindingItemProps) {
  const { t, format } = useMessages();
  const [all, setAll] = useState(false);
  const { rows, count } = finding;
  const shown = all ? rows : rows.slice(0, SHOWN);
  const fix = t.findings.fixes[finding.remedy];
  return (
    <li data-finding={finding.code}>
      <div className={classes.words}>
        <p>{finding.message}</p>
        <p className={classes.quiet}>{finding.hint}</p>
        <ul className={classes.rows}>
          {shown.map(({ row, other, text }) => (
            <li key={`${row} ${other ?? ""} ${text}`}>
              <button type="button" className={classes.link} onClick={() => onRow(row)}>
                {t.dataset.row(format.number(row))}
              </button>
              {other !== null && (
                <button type="button" className={classes.link} onClick={() => onRow(other)}>
                  {t.findings.other(format.number(other))}
                </button>
              )}
              {text && <span className={classes.text}>{text}</span>}
            </li>
          ))}
          {!all && rows.length > SHOWN && (
            <li>
              <button type="button" className={classes.link} onClick={() => setAll(true)}>
                {t.findings.more(format.number(rows.length - SHOWN))}
              </button>
            </li>
          )}
          {all && count > rows.length && <li className={classes.quiet}>{t.findings.further(format.number(count - rows.length))}</li>}
        </ul>
      </div>
      <Button size="xs" variant="default" loading={busy} disabled={disabled} aria-label={`${fix}: ${finding.message}`} onClick={onFix}>
        {fix}
      </Button>
    </li>
  );
}
