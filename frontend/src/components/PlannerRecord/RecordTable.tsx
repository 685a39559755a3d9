import { Link } from "@tanstack/react-router";
import { useMessages } from "@/hooks/useMessages";
import type { PlannedJob } from "@/types/api";
import classes from "./PlannerRecord.module.css";

/** A bar as long as this share of error fills its half. */
const FULL_SHARE = 0.5;

/** Planned beside measured, and by which share of the measurement the plan was too high or too low. */
function Pair({ planned, measured, show }: { planned: number; measured: number | null; show: (value: number) => string }) {
  const { t, format } = useMessages();
  if (!measured) return <td>{show(planned)}</td>;
  const off = planned / measured - 1;
  const length = Math.min(1, Math.abs(off) / FULL_SHARE) * 50;
  const share = format.share(Math.abs(off));
  return (
    <td>
      {t.record.pair(show(planned), show(measured))}
      <span className={classes.off}>{off > 0 ? t.record.tooHigh(share) : off < 0 ? t.record.tooLow(share) : t.record.exact}</span>
      <span className={classes.axis} aria-hidden="true">
        <span style={{ width: `${length}%`, left: off > 0 ? "50%" : `${50 - length}%` }} data-low={off < 0 || undefined} />
      </span>
    </td>
  );
}

/** One line for each training that ended, the newest first. */
export function RecordTable({ jobs }: { jobs: PlannedJob[] }) {
  const { t, format } = useMessages();
  return (
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- a region that scrolls has to be reachable by keyboard
    <div className={classes.scroll} tabIndex={0} role="region" aria-label={t.record.title}>
      <table className={classes.table}>
        <thead>
          <tr>
            <th scope="col">{t.record.training}</th>
            <th scope="col">{t.record.memory}</th>
            <th scope="col">{t.record.time}</th>
          </tr>
        </thead>
        <tbody>
          {[...jobs]
            .sort((one, other) => other.finished_at.localeCompare(one.finished_at))
            .map((job) => (
              <tr key={job.job_id}>
                <th scope="row">
                  <Link to="/jobs/$jobId" params={{ jobId: job.job_id }}>
                    {job.name}
                  </Link>
                  <span className={classes.when}>{format.dateTime(job.finished_at)}</span>
                </th>
                <Pair planned={job.planned_peak_bytes} measured={job.measured_peak_bytes} show={format.bytes} />
                <Pair planned={job.planned_seconds} measured={job.measured_seconds} show={format.duration} />
              </tr>
            ))}
        </tbody>
      </table>
    </div>
  );
}
