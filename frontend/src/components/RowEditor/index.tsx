import { Button, Group, Stack, Text, Textarea } from "@mantine/core";
import { useState, type FormEvent } from "react";
import { useEditDataset } from "@/api/versions";
import { ErrorNotice } from "@/components/ErrorNotice";
import { useMessages } from "@/hooks/useMessages";
import type { ColumnMapping, Dataset } from "@/types/api";

type Part = Exclude<keyof ColumnMapping, "shape">;

interface RowEditorProps {
  dataset: Dataset;
  /** The row to change; absent: a new one. */
  row?: { row: number; values: Record<string, string> } | undefined;
  onVersion: (version: Dataset) => void;
  onClose: () => void;
}

/** One row, column by column. Saving makes a new version; this one stays as it is. */
export function RowEditor({ dataset, row, onVersion, onClose }: RowEditorProps) {
  const { t } = useMessages();
  const [values, setValues] = useState<Record<string, string>>(row?.values ?? {});
  const edit = useEditDataset(dataset.dataset_id);
  const { used, others } = columnsOf(dataset);
  const changed = Object.fromEntries(Object.entries(values).filter(([column, value]) => value !== (row?.values[column] ?? "")));
  const onSubmit = (event: FormEvent): void => {
    event.preventDefault();
    const body = row ? { edited: [{ row: row.row, values: changed }], added: [] } : { edited: [], added: [changed] };
    edit.mutate(body, { onSuccess: onVersion });
  };
  const field = (column: string, part?: Part) => (
    <Textarea
      key={column}
      label={column}
      description={part && t.mapping[part]}
      autosize
      minRows={1}
      maxRows={12}
      value={values[column] ?? ""}
      onChange={(event) => setValues({ ...values, [column]: event.currentTarget.value })}
    />
  );
  return (
    <form onSubmit={onSubmit} data-testid="row-editor">
      <Stack gap="sm">
        {used.map(({ column, part }) => field(column, part))}
        {others.length > 0 && (
          <details>
            <summary>{t.findings.otherColumns(others.length)}</summary>
            <Stack gap="sm" mt="xs">
              {others.map((column) => field(column))}
            </Stack>
          </details>
        )}
        {edit.error && <ErrorNotice error={edit.error} />}
        <Text size="sm" c="dimmed">
          {t.findings.editHint}
        </Text>
        <Group gap="xs">
          <Button type="submit" size="xs" loading={edit.isPending} disabled={Object.keys(changed).length === 0}>
            {t.findings.save}
          </Button>
          {row && (
            <Button
              size="xs"
              variant="default"
              disabled={edit.isPending}
              onClick={() => edit.mutate({ edited: [{ row: row.row, values: null }], added: [] }, { onSuccess: onVersion })}
            >
              {t.findings.leaveOut}
            </Button>
          )}
          <Button size="xs" variant="default" onClick={onClose}>
            {t.common.cancel}
          </Button>
        </Group>
      </Stack>
    </form>
  );
}

/** The columns that the mapping uses, with their part, and the others. */
function columnsOf({ columns, mapping }: Dataset): { used: { column: string; part: Part }[]; others: string[] } {
  const partOf = new Map(Object.entries(mapping).flatMap(([part, column]) => (part === "shape" ? [] : [[column, part as Part]])));
  const used = columns.flatMap((column) => {
    const part = partOf.get(column);
    return part ? [{ column, part }] : [];
  });
  return { used, others: columns.filter((column) => !partOf.has(column)) };
}
