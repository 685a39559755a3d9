"""The list of jobs, put into words once for each state of a job.

Every open page asks for the newest hundred every few seconds, and next to none of them has changed since: what is left to do
is one narrow query and putting pieces of JSON together.
"""

import threading
from collections import OrderedDict

from sqlalchemy.orm import Session

from app.api.wording import job_read
from app.contracts.status import JobStatus
from app.core.messages import Language
from app.services import job_service
from app.services.studio import Studio
from app.storage.repositories import Jobs

KEPT = 2000
"""Jobs in one language, about 1.2 kB each: ten pages of the longest list."""

State = tuple[str, int, bool]
"""Status, number of the last event, whether there is an adapter. Whatever changes a job writes an event, but for the adapter,
whose files may be deleted."""


class JobLines:
    """The JSON of the jobs that were listed last. Safe in any thread."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._lines: OrderedDict[tuple[str, Language], tuple[State, bytes]] = OrderedDict()

    def render(
        self, studio: Studio, session: Session, language: Language, *, limit: int, after: str | None, status: JobStatus | None
    ) -> bytes:
        """Return a page of jobs, newest first, as a JobList in JSON. The session sees one state of the database."""
        jobs = Jobs(session)
        wanted: dict[str, State] = {
            job.job_id: (job.status, job.last_seq, job_service.can_chat(studio, job))
            for job in jobs.page_states(limit, after, status)
        }
        with self._lock:
            kept = {job_id: self._lines.get((job_id, language)) for job_id in wanted}
        lines = {job_id: found[1] for job_id, found in kept.items() if found is not None and found[0] == wanted[job_id]}
        missing = [job_id for job_id in wanted if job_id not in lines]
        fresh = {row.job_id: job_read(studio, row, language).model_dump_json().encode() for row in jobs.named(missing)}
        self._keep(language, {job_id: (wanted[job_id], line) for job_id, line in fresh.items()})
        lines |= fresh
        return b'{"jobs":[' + b",".join(lines[job_id] for job_id in wanted) + b"]}"

    def _keep(self, language: Language, fresh: dict[str, tuple[State, bytes]]) -> None:
        with self._lock:
            for job_id, found in fresh.items():
                self._lines[job_id, language] = found
                self._lines.move_to_end((job_id, language))
            while len(self._lines) > self._kept:
                self._lines.popitem(last=False)
