import { Button, Group, Skeleton, Text } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { rowsQuery } from "@/api/datasets";
import { ErrorNotice } from "@/components/ErrorNotice";
import { useMessages } from "@/hooks/useMessages";
import type { DatasetRow } from "@/types/api";
import classes from "./RowPreview.module.css";

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

function Row({ row }: { row: DatasetRow }) {
  const { t, format } = useMessages();
  return (
    <li className={classes.row}>
      <p className={classes.number}>{t.dataset.row(format.number(row.row))}</p>
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
    </li>
  );
}

/** Rows as conversations, the way the model will read them. */
export function RowPreview({ datasetId, pageSize }: { datasetId: string; pageSize: number }) {
  const { t, format } = useMessages();
  const [offset, setOffset] = useState(0);
  const { data, error, refetch } = useQuery({ ...rowsQuery(datasetId, offset, pageSize), placeholderData: keepPreviousData });

  if (error && !data) return <ErrorNotice error={error} onRetry={() => void refetch()} />;
  if (!data) return <Skeleton height={180} radius="md" />;
  const last = Math.min(offset + pageSize, data.total);
  return (
    <>
      <ol className={classes.rows}>
        {data.rows.map((row) => (
          <Row key={row.row} row={row} />
        ))}
      </ol>
      <Group justify="space-between" mt="md">
        <Text size="sm" c="dimmed" className="numbers">
          {t.dataset.pageOf(format.number(Math.min(offset + 1, data.total)), format.number(last), format.number(data.total))}
        </Text>
        <Group gap="xs">
          <Button size="xs" variant="default" disabled={offset === 0} onClick={() => setOffset(Math.max(0, offset - pageSize))}>
            {t.common.previous}
          </Button>
          <Button size="xs" variant="default" disabled={last >= data.total} onClick={() => setOffset(offset + pageSize)}>
            {t.common.next}
          </Button>
        </Group>
      </Group>
    </>
  );
}
