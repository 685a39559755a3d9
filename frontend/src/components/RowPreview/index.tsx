import { Button, Group, Skeleton, Text } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import { rowsQuery } from "@/api/datasets";
import { ErrorNotice } from "@/components/ErrorNotice";
import { Icon } from "@/components/Icon";
import { RowEditor } from "@/components/RowEditor";
import { useMessages } from "@/hooks/useMessages";
import type { Dataset, DatasetRow } from "@/types/api";
import { RowView } from "./RowView";
import classes from "./RowPreview.module.css";

/** A row that somebody asked to see; another object asks anew. */
export interface WantedRow {
  row: number;
}

interface RowPreviewProps {
  dataset: Dataset;
  pageSize: number;
  wanted?: WantedRow | undefined;
  /** A row was changed, left out or added: here is the version that has it, and the row to look at. */
  onVersion: (version: Dataset, row: number) => void;
}

/** Rows as conversations, the way the model will read them; any of them can be changed, and rows added. */
export function RowPreview({ dataset, pageSize, wanted, onVersion }: RowPreviewProps) {
  const { t, format } = useMessages();
  const [page, setPage] = useState({ wanted, offset: wanted ? pageOf(wanted, pageSize) : 0 });
  const [adding, setAdding] = useState(false);
  if (wanted !== page.wanted) setPage({ wanted, offset: wanted ? pageOf(wanted, pageSize) : page.offset });
  const { offset } = page;
  const turn = (to: number): void => setPage({ ...page, offset: to });
  const { data, error, refetch } = useQuery({ ...rowsQuery(dataset.dataset_id, offset, pageSize), placeholderData: keepPreviousData });

  if (error && !data) return <ErrorNotice error={error} onRetry={() => void refetch()} />;
  if (!data) return <Skeleton height={180} radius="md" />;
  const last = Math.min(offset + pageSize, data.total);
  return (
    <>
      <ol className={classes.rows}>
        {data.rows.map((row) => (
          <Row key={row.row} dataset={dataset} row={row} wanted={row.row === wanted?.row ? wanted : undefined} onVersion={onVersion} />
        ))}
      </ol>
      <Group justify="space-between" mt="md">
        <Group gap="md">
          <Button size="xs" variant="default" leftSection={<Icon name="plus" size={15} />} aria-expanded={adding} onClick={() => setAdding(!adding)}>
            {t.findings.add}
          </Button>
          <Text size="sm" c="dimmed" className="numbers">
            {t.dataset.pageOf(format.number(Math.min(offset + 1, data.total)), format.number(last), format.number(data.total))}
          </Text>
        </Group>
        <Group gap="xs">
          <Button size="xs" variant="default" disabled={offset === 0} onClick={() => turn(Math.max(0, offset - pageSize))}>
            {t.common.previous}
          </Button>
          <Button size="xs" variant="default" disabled={last >= data.total} onClick={() => turn(offset + pageSize)}>
            {t.common.next}
          </Button>
        </Group>
      </Group>
      {adding && (
        <div className={classes.editor}>
          <RowEditor dataset={dataset} onVersion={(version) => onVersion(version, version.rows_in_file)} onClose={() => setAdding(false)} />
        </div>
      )}
    </>
  );
}

const pageOf = ({ row }: WantedRow, pageSize: number): number => Math.floor((row - 1) / pageSize) * pageSize;

interface RowProps {
  dataset: Dataset;
  row: DatasetRow;
  wanted: WantedRow | undefined;
  onVersion: (version: Dataset, row: number) => void;
}

function Row({ dataset, row, wanted, onVersion }: RowProps) {
  const { t, format } = useMessages();
  const [editing, setEditing] = useState(false);
  const place = useRef<HTMLLIElement>(null);
  const number = t.dataset.row(format.number(row.row));
  useEffect(() => {
    if (!wanted) return;
    place.current?.focus({ preventScroll: true });
    place.current?.scrollIntoView({ block: "center" });
  }, [wanted]);
  return (
    <li ref={place} className={classes.row} tabIndex={-1} data-wanted={wanted ? true : undefined}>
      <p className={classes.number}>
        {number}
        <button
          type="button"
          className={classes.edit}
          aria-label={`${t.findings.edit}: ${number}`}
          aria-expanded={editing}
          onClick={() => setEditing(!editing)}
        >
          {t.findings.edit}
        </button>
      </p>
      {editing && (
        <div className={classes.editor}>
          <RowEditor dataset={dataset} row={row} onVersion={(version) => onVersion(version, row.row)} onClose={() => setEditing(false)} />
        </div>
      )}
      <RowView row={row} />
    </li>
  );
}
