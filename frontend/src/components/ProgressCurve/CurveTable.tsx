import { useMessages } from "@/hooks/useMessages";
import type { Series } from "@/lib/series";
import classes from "./ProgressCurve.module.css";

const ROWS = 12;

/** At most `ROWS` positions, evenly spread, the first and the last among them. */
function spread(length: number): number[] {
  if (length <= ROWS) return Array.from({ length }, (_, index) => index);
  return Array.from({ length: ROWS }, (_, index) => Math.round((index * (length - 1)) / (ROWS - 1)));
}

/** The curve in words and numbers, for those who do not see it. */
export function CurveTable({ training, heldout }: { training: Series; heldout: Series }) {
  const { t, format } = useMessages();
  const show = (value: number | undefined): string => (value === undefined ? "" : format.number(value, 3));
  const first = training.values[0];
  if (first === undefined) return <p className={classes.summary}>{t.curve.empty}</p>;
  const sentences = [t.curve.summary(show(first), show(training.values.at(-1)), format.number(training.steps.at(-1) ?? 0))];
  if (heldout.values.length > 1) sentences.push(t.curve.heldoutSummary(show(heldout.values[0]), show(heldout.values.at(-1))));
  const tables = [
    { name: t.curve.training, series: training },
    { name: t.curve.heldout, series: heldout },
  ].filter(({ series }) => series.steps.length > 0);

  return (
    <>
      <p className={classes.summary}>{sentences.join(" ")}</p>
      <details className={classes.details}>
        <summary>{t.curve.table}</summary>
        <div className={classes.tables}>
          {tables.map(({ name, series }) => (
            <table key={name}>
              <caption>{name}</caption>
              <thead>
                <tr>
                  <th scope="col">{t.curve.step}</th>
                  <th scope="col">{t.curve.title}</th>
                </tr>
              </thead>
              <tbody>
                {spread(series.steps.length).map((index) => (
                  <tr key={index}>
                    <td>{format.number(series.steps[index] ?? 0)}</td>
                    <td>{show(series.values[index])}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          ))}
        </div>
      </details>
    </>
  );
}
