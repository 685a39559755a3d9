import { useQuery } from "@tanstack/react-query";
import { reportQuery } from "@/api/jobs";
import { ErrorNotice } from "@/components/ErrorNotice";
import { Facts } from "@/components/Facts";
import { Verdict } from "./Verdict";
import { Comparison } from "./Comparison";
import { useMessages } from "@/hooks/useMessages";
import type { Report } from "@/types/api";
import classes from "./ReportCard.module.css";

function BeforeAfter({ before, after, improvement }: { before: number; after: number; improvement: number | null }) {
  const { t, format } = useMessages();
  const scale = Math.max(before, after);
  return (
    <div className={classes.bars}>
      {[
        { label: t.report.before, value: before, kind: "before" },
        { label: t.report.after, value: after, kind: "after" },
      ].map(({ label, value, kind }) => (
        <div key={kind} className={classes.line}>
          <span className={classes.label}>{label}</span>
          <span className={classes.track}>
            <span className={classes.bar} data-kind={kind} style={{ width: `${(value / scale) * 100}%` }} />
          </span>
          <span className={classes.value}>{format.number(value, 3)}</span>
        </div>
      ))}
      {improvement !== null && (
        <p className={classes.change} data-better={improvement > 0 || undefined}>
          {t.common.labelled(
            t.jobs.heldout,
            improvement >= 0 ? t.report.better(format.percent(improvement)) : t.report.worse(format.percent(-improvement)),
          )}
        </p>
      )}
    </div>
  );
}

function Details({ report }: { report: Report }) {
  const { t, format } = useMessages();
  const range = `${format.number(report.train_loss_first, 3)} → ${format.number(report.train_loss_last, 3)}`;
  return (
    <Facts
      facts={[
        {
          label: t.report.steps,
          value:
            report.planned_steps && report.planned_steps !== report.steps
              ? t.report.ofPlanned(format.number(report.steps), format.number(report.planned_steps))
              : format.number(report.steps),
        },
        ...(report.best_step ? [{ label: t.report.bestStep, value: format.number(report.best_step) }] : []),
        { label: t.report.trainLoss, value: range },
        { label: t.report.trainedRows, value: format.number(report.trained_rows) },
        { label: t.report.truncated, value: format.number(report.truncated_rows) },
        { label: t.report.dropped, value: format.number(report.dropped_rows) },
        { label: t.report.tokens, value: format.compact(report.tokens) },
        { label: t.report.tokenShare, value: format.percent(report.trained_token_share) },
        { label: t.report.duration, value: format.duration(report.seconds) },
        { label: t.report.peak, value: format.bytes(report.peak_bytes) },
      ]}
    />
  );
}

/** Held-out loss before and after, drawn to scale, in one sentence, with what was trained. */
export function ReportCard({ jobId, details = false }: { jobId: string; details?: boolean }) {
  const { data: report, error, refetch } = useQuery(reportQuery(jobId));
  if (error && !report) return <ErrorNotice error={error} onRetry={() => void refetch()} />;
  if (!report) return null;
  const { loss_before: before, loss_after: after, improvement } = report;
  return (
    <div className={classes.report} data-testid="report">
      <p className={classes.summary}>{report.summary}</p>
      {before !== null && after !== null && <BeforeAfter before={before} after={after} improvement={improvement} />}
      {report.comparison && <Verdict comparison={report.comparison} />}
      {details && <Details report={report} />}
      {details && report.comparison && <Comparison jobId={jobId} comparison={report.comparison} />}
    </div>
  );
}
