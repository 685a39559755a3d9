import { useMessages } from "@/hooks/useMessages";
import type { TokenReport } from "@/types/api";
import classes from "./TokenTruth.module.css";

/** A bar that stands for a single row is still to be seen. */
const LOWEST_BAR = 0.015;

/** How many rows have how many tokens, with the line beyond which rows are too long. */
export function LengthHistogram({ report }: { report: TokenReport }) {
  const { t, format } = useMessages();
  const bins = report.histogram;
  const highest = Math.max(1, ...bins.map(({ rows }) => rows));
  const width = bins[0]?.last ?? 1;
  const line = report.max_length / width / bins.length;
  const words = bins.map(({ first, last, rows }) =>
    last === null
      ? t.tokens.lastBar(format.number(first), format.number(rows), rows)
      : t.tokens.bar(format.number(first), format.number(last), format.number(rows), rows),
  );
  return (
    <figure className={classes.figure}>
      <figcaption>{t.tokens.histogram}</figcaption>
      <div className={classes.plot} aria-hidden="true">
        {bins.map(({ first, rows }, index) => (
          <span key={first} className={classes.slot} title={words[index]} data-beyond={first > report.max_length || undefined}>
            <span className={classes.bar} style={{ height: rows ? `${100 * Math.max(LOWEST_BAR, rows / highest)}%` : 0 }} />
          </span>
        ))}
        {report.cut_rows_share > 0 && line <= 1 && (
          <span className={classes.line} style={{ left: `${100 * line}%` }} data-side={line > 0.6 ? "left" : undefined}>
            <span>{t.tokens.limit(format.number(report.max_length))}</span>
          </span>
        )}
      </div>
      <div className={classes.axis} aria-hidden="true">
        <span>1</span>
        <span>{bins.at(-1)?.last === null ? `≥ ${format.number(bins.at(-1)?.first ?? 0)}` : format.number(bins.at(-1)?.last ?? 0)}</span>
      </div>
      <details className={classes.table}>
        <summary>{t.tokens.lengths}</summary>
        <ul>
          {words.map((text, index) => (bins[index]?.rows ? <li key={text}>{text}</li> : null))}
        </ul>
      </details>
    </figure>
  );
}
