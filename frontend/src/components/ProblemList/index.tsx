import { Anchor, Button, Group } from "@mantine/core";
import { badRowsPath, useFixDataset } from "@/api/versions";
import { ErrorNotice } from "@/components/ErrorNotice";
import { Icon } from "@/components/Icon";
import { useMessages } from "@/hooks/useMessages";
import type { Dataset } from "@/types/api";
import classes from "./ProblemList.module.css";

const SHOWN = 50;
/** What the fix is called that leaves out every row that cannot be used. */
const BAD_ROWS = "bad_rows";

interface ProblemListProps {
  dataset: Dataset;
  /** Shows the row at fault. */
  onRow: (row: number) => void;
  onVersion: (version: Dataset) => void;
}

/** Each problem with its place in the file and what to do about it; the rows at fault can be seen, taken away, left out. */
export function ProblemList({ dataset, onRow, onVersion }: ProblemListProps) {
  const { t, format } = useMessages();
  const fix = useFixDataset(dataset.dataset_id);
  const { problems, problem_count: total, skipped_rows: skipped } = dataset;
  if (total === 0) {
    return (
      <p className={classes.fine}>
        <Icon name="check" /> {t.dataset.noProblems}
      </p>
    );
  }
  const shown = problems.slice(0, SHOWN);
  return (
    <>
      {/* A region that scrolls has to be reachable by keyboard. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <ul className={classes.list} tabIndex={0} aria-label={t.dataset.problems}>
        {shown.map((problem, index) => {
          const row = problem.row > 0 ? t.dataset.row(format.number(problem.row)) : t.dataset.wholeFile;
          const place = problem.column ? `${row}, ${t.dataset.column(problem.column)}` : row;
          return (
            <li key={index}>
              <span className={classes.place}>
                {problem.row > 0 ? (
                  <button type="button" className={classes.link} onClick={() => onRow(problem.row)}>
                    {place}
                  </button>
                ) : (
                  place
                )}
              </span>
              <span>
                {problem.message} <span className={classes.hint}>{problem.hint}</span>
              </span>
            </li>
          );
        })}
        {total > shown.length && <li className={classes.hint}>{t.dataset.moreProblems(format.number(total - shown.length))}</li>}
      </ul>
      {fix.error && <ErrorNotice error={fix.error} />}
      {skipped > 0 && (
        <Group gap="md" mt="sm">
          <Button size="xs" variant="default" loading={fix.isPending} onClick={() => fix.mutate({ findings: [BAD_ROWS] }, { onSuccess: onVersion })}>
            {t.findings.leaveOutBad(format.number(skipped), skipped)}
          </Button>
          <Anchor size="sm" href={badRowsPath(dataset.dataset_id)} download>
            {t.findings.badRows}
          </Anchor>
        </Group>
      )}
    </>
  );
}
