import { Icon } from "@/components/Icon";
import { useMessages } from "@/hooks/useMessages";
import type { Problem } from "@/types/api";
import classes from "./ProblemList.module.css";

const SHOWN = 50;

/** Each problem with its place in the file and what to do about it. */
export function ProblemList({ problems, total }: { problems: Problem[]; total: number }) {
  const { t, format } = useMessages();
  if (total === 0) {
    return (
      <p className={classes.fine}>
        <Icon name="check" /> {t.dataset.noProblems}
      </p>
    );
  }
  const shown = problems.slice(0, SHOWN);
  return (
    // A region that scrolls has to be reachable by keyboard.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <ul className={classes.list} tabIndex={0} aria-label={t.dataset.problems}>
      {shown.map((problem, index) => (
        <li key={index}>
          <span className={classes.place}>
            {problem.row > 0 ? t.dataset.row(format.number(problem.row)) : t.dataset.wholeFile}
            {problem.column && `, ${t.dataset.column(problem.column)}`}
          </span>
          <span>
            {problem.message} <span className={classes.hint}>{problem.hint}</span>
          </span>
        </li>
      ))}
      {total > shown.length && <li className={classes.hint}>{t.dataset.moreProblems(format.number(total - shown.length))}</li>}
    </ul>
  );
}
