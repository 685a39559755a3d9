import { Button, Group, NumberInput, SegmentedControl, Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { tokenReportQuery, tokenRowQuery, type Reading } from "@/api/datasets";
import { ErrorNotice } from "@/components/ErrorNotice";
import { useMessages } from "@/hooks/useMessages";
import type { Dataset } from "@/types/api";
import { TokenText } from "./TokenText";
import classes from "./TokenTruth.module.css";

interface RowTokensProps {
  dataset: Dataset;
  reading: Reading;
  row: number;
  onRow: (row: number) => void;
}

/** Any row as the exact tokens that the model will see. */
export function RowTokens({ dataset, reading, row, onRow }: RowTokensProps) {
  const { t, format } = useMessages();
  const [rejected, setRejected] = useState(false);
  const pairs = dataset.shape === "preference";
  const { data: report } = useQuery(tokenReportQuery(dataset.dataset_id, reading));
  const { data, error, refetch } = useQuery(tokenRowQuery(dataset.dataset_id, row, reading, pairs && rejected));
  const limit = report && report.long_rows !== "split" ? report.max_length : undefined;
  const learned = data?.tokens.filter(({ trained }, place) => trained && (limit === undefined || place < limit)).length ?? 0;

  return (
    <section className={classes.row} aria-label={t.tokens.row} data-testid="token-row">
      <h3>{t.tokens.row}</h3>
      <Group gap="xs" align="flex-end">
        <NumberInput
          label={t.tokens.rowNumber}
          w={130}
          min={1}
          max={dataset.rows_in_file}
          allowDecimal={false}
          value={row}
          onChange={(value) => typeof value === "number" && value >= 1 && onRow(Math.min(value, dataset.rows_in_file))}
        />
        <Button variant="default" disabled={row <= 1} onClick={() => onRow(row - 1)}>
          {t.common.previous}
        </Button>
        <Button variant="default" disabled={row >= dataset.rows_in_file} onClick={() => onRow(row + 1)}>
          {t.common.next}
        </Button>
        {pairs && (
          <SegmentedControl
            aria-label={t.tokens.show}
            value={rejected ? "rejected" : "preferred"}
            onChange={(value) => setRejected(value === "rejected")}
            data={(["preferred", "rejected"] as const).map((value) => ({ value, label: t.tokens[value] }))}
          />
        )}
      </Group>
      {error && <ErrorNotice error={error} onRetry={() => void refetch()} />}
      {!data && !error && <Skeleton height={120} radius="md" />}
      {data && !error && (
        <>
          <ul className={classes.legend}>
            {(["trained", "context", "special", ...(limit !== undefined && data.full_length > limit ? (["cut"] as const) : [])] as const).map(
              (kind) => (
                <li key={kind}>
                  <span className={classes.token} data-kind={kind} aria-hidden="true">
                    Aa
                  </span>{" "}
                  {t.tokens.legend[kind]}
                </li>
              ),
            )}
          </ul>
          <TokenText key={`${data.row} ${reading.model}`} row={data} limit={limit} />
          <p className={classes.quiet}>
            {t.tokens.rowCount(format.number(data.full_length), format.number(learned))}.{" "}
            {data.template === "plain" ? t.tokens.templates.plain : t.tokens.templates.chat}{" "}
            {data.fallback !== "none" && t.tokens.fallbacks[data.fallback]}
          </p>
        </>
      )}
    </section>
  );
}
