import { Skeleton, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { tokenReportQuery, type Reading } from "@/api/datasets";
import { ErrorNotice } from "@/components/ErrorNotice";
import { Facts } from "@/components/Facts";
import { useMessages } from "@/hooks/useMessages";
import type { Dataset } from "@/types/api";
import { CheckList } from "./CheckList";
import { LengthHistogram } from "./LengthHistogram";

interface TokenSummaryProps {
  dataset: Dataset;
  reading: Reading;
  onRow: (row: number) => void;
}

/** All rows under one model, in numbers, as a picture, and checked. */
export function TokenSummary({ dataset, reading, onRow }: TokenSummaryProps) {
  const { t, format } = useMessages();
  const { data: report, error, refetch } = useQuery(tokenReportQuery(dataset.dataset_id, reading));
  if (error) return <ErrorNotice error={error} onRetry={() => void refetch()} />;
  if (!report) return <Skeleton height={240} radius="md" />;

  const rows = format.share(report.cut_rows_share);
  const divided = report.long_rows === "split";
  const lost = divided ? t.tokens.cutWhole(rows) : t.tokens.cutRows(rows, format.share(report.cut_tokens_share));
  return (
    <Stack gap="md" data-testid="token-report">
      <Facts
        facts={[
          { label: t.tokens.median, value: t.tokens.count(format.number(report.median_length), report.median_length) },
          { label: t.tokens.longest, value: t.tokens.count(format.number(report.longest), report.longest) },
          { label: t.tokens.trained, value: format.share(report.trained_share), hint: t.tokens.trainedHint },
          { label: t.tokens.cut, value: report.cut_rows_share > 0 ? lost : t.tokens.cutNone, hint: report.long_rows_reason },
        ]}
      />
      <LengthHistogram report={report} />
      {report.rows_counted < report.rows && (
        <Text size="sm" c="dimmed">
          {t.tokens.sample(format.number(report.rows_counted), format.number(report.rows))}
        </Text>
      )}
      <CheckList checks={report.checks} onRow={onRow} />
    </Stack>
  );
}
