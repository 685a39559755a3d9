"""The one door for the status of a job."""

from app.contracts.status import NEXT, JobStatus
from app.core.errors import Conflict
from app.storage.tables import JobRow


class IllegalMove(Conflict):
    """A status that cannot follow the present one."""

    def __init__(self, job_id: str, old: JobStatus, new: JobStatus) -> None:
        super().__init__("job_status", job_id=job_id, status=old.value, new_status=new.value)
        self.old, self.new = old, new


def switch_status(row: JobRow, new: JobStatus, at: str) -> bool:
    """Move a job to `new` and return whether that changed anything. The only writer of `JobRow.status`.

    Raise IllegalMove for a move that contracts/status.py does not list. The caller holds the row (Jobs.lock).
    """
    old = JobStatus(row.status)
    if new is old:
        return False
    if new not in NEXT[old]:
        raise IllegalMove(row.job_id, old, new)
    row.status = new.value
    if new is JobStatus.RUNNING and row.started_at is None:
        row.started_at = at
    if new.terminal:
        row.finished_at = at
        row.eta_seconds = None
    return True
