import { useMessages } from "@/hooks/useMessages";
import type { DatasetRow } from "@/types/api";
import classes from "./RowPreview.module.css";

/** One row the way the model will read it, or why it is not used. Everything is shown as text. */
export function RowView({ row }: { row: DatasetRow }) {
  const { t } = useMessages();
  return (
    <>
      {row.messages?.map((message, index) => (
        <div key={index} className={classes.turn} data-role={message.role}>
          <span className={classes.role}>{t.dataset.roles[message.role]}</span>
          <p>{message.content}</p>
        </div>
      ))}
      {row.rejected && (
        <div className={classes.turn} data-role="rejected">
          <span className={classes.role}>{t.dataset.rejected}</span>
          <p>{row.rejected[row.rejected.length - 1]?.content}</p>
        </div>
      )}
      {typeof row.desirable === "boolean" && <p className={classes.raw}>{row.desirable ? t.dataset.judgedGood : t.dataset.judgedBad}</p>}
      {row.text && (
        <div className={classes.turn} data-role="text">
          <p>{row.text}</p>
        </div>
      )}
      {!row.messages && !row.text && <Unusable row={row} />}
    </>
  );
}

function Unusable({ row }: { row: DatasetRow }) {
  const { t } = useMessages();
  return (
    <div className={classes.turn} data-role="unusable">
      <span className={classes.role}>{t.dataset.unusable}</span>
      {row.problems.map((problem, index) => (
        <p key={index}>{problem.message}</p>
      ))}
      {Object.entries(row.values).map(([column, value]) => (
        <p key={column} className={classes.raw}>
          {column}: {value}
        </p>
      ))}
    </div>
  );
}
