import { Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { planRecordQuery } from "@/api/plans";
import { EmptyState } from "@/components/EmptyState";
import { ErrorNotice } from "@/components/ErrorNotice";
import { Facts } from "@/components/Facts";
import { useMessages } from "@/hooks/useMessages";
import { RecordTable } from "./RecordTable";
import classes from "./PlannerRecord.module.css";

/** How right the planner was: what it said before each finished training against what was measured. */
export function PlannerRecord() {
  const { t, format } = useMessages();
  const { data, error, refetch } = useQuery(planRecordQuery);
  if (error && !data) return <ErrorNotice error={error} onRetry={() => void refetch()} />;
  if (!data) return <Skeleton height={160} radius="md" aria-label={t.app.loading} />;
  if (data.jobs.length === 0) return <EmptyState icon="gauge" title={t.record.none} hint={t.record.noneHint} />;
  const { summary } = data;
  const percent = (value: number | null): string => (value === null ? "–" : format.share(Math.abs(value) / 100));
  return (
    <div className={classes.record} data-testid="record">
      <Facts
        wide
        facts={[
          { label: t.record.count, value: format.number(summary.count) },
          { label: t.record.memoryOff, value: percent(summary.peak_mean_abs_pct), hint: t.record.onAverage },
          { label: t.record.worstUnder, value: percent(summary.peak_worst_under_pct), hint: t.record.worstUnderHint },
          { label: t.record.timeOff, value: percent(summary.seconds_mean_abs_pct), hint: t.record.onAverage },
        ]}
      />
      <RecordTable jobs={data.jobs} />
    </div>
  );
}
