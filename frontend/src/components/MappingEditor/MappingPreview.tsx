import { Loader, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { mappingPreviewQuery } from "@/api/datasets";
import { ErrorNotice } from "@/components/ErrorNotice";
import { RowView } from "@/components/RowPreview/RowView";
import { useMessages } from "@/hooks/useMessages";
import type { ColumnMapping } from "@/types/api";
import classes from "./MappingEditor.module.css";

/** Rows shown of those that were tried. */
const SHOWN = 3;

/** The first rows as the draft of a mapping would read them, before anything is changed. */
export function MappingPreview({ datasetId, mapping }: { datasetId: string; mapping: ColumnMapping }) {
  const { t, format } = useMessages();
  const { data, error, isFetching } = useQuery(mappingPreviewQuery(datasetId, mapping));
  if (error && !isFetching) return <ErrorNotice error={error} />;
  if (!data) return <Loader size={16} aria-label={t.app.loading} />;
  const usable = data.rows.filter(({ problems }) => problems.length === 0).length;
  return (
    <section className={classes.preview} aria-label={t.mapping.preview} aria-busy={isFetching} data-testid="mapping-preview">
      <Text size="sm" fw={600} role="status">
        {t.mapping.preview}
        <Text span size="sm" c={usable < data.rows.length ? undefined : "dimmed"} fw={usable < data.rows.length ? 600 : 400} ml={8}>
          {t.mapping.usable(format.number(usable), format.number(data.rows.length))}
        </Text>
      </Text>
      <ol>
        {data.rows.slice(0, SHOWN).map((row) => (
          <li key={row.row}>
            <Text size="xs" c="dimmed">
              {t.dataset.row(format.number(row.row))}
            </Text>
            <RowView row={row} />
          </li>
        ))}
      </ol>
    </section>
  );
}
