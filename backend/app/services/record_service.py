"""The planner's own record: what finished jobs were predicted to take beside what they took."""

from dataclasses import dataclass
from statistics import fmean

from app.contracts.record import JobRecord
from app.services.studio import Studio


@dataclass(frozen=True)
class Summary:
    """Errors in percent of what was measured; None before the first job."""

    count: int
    peak_mean_abs_pct: float | None
    peak_worst_under_pct: float | None
    """The largest share by which a job needed more than its prediction; 0 when none did."""
    seconds_mean_abs_pct: float | None


def list_records(studio: Studio) -> list[JobRecord]:
    """Return the records of this machine, oldest first."""
    return studio.planner_dir.read_records()


def summarise(records: list[JobRecord]) -> Summary:
    """Return how wrong the planner was."""
    peaks = [
        100 * (record.planned_peak_bytes / record.measured_peak_bytes - 1) for record in records if record.measured_peak_bytes > 0
    ]
    seconds = [100 * (record.planned_seconds / record.measured_seconds - 1) for record in records if record.measured_seconds]
    return Summary(
        count=len(records),
        peak_mean_abs_pct=fmean(map(abs, peaks)) if peaks else None,
        peak_worst_under_pct=max(0.0, -min(peaks)) if peaks else None,
        seconds_mean_abs_pct=fmean(map(abs, seconds)) if seconds else None,
    )
