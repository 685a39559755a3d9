"""Tell another program that a job has ended: one POST of JSON to the address in the settings.

It is sent by a thread of its own: a receiver that is slow or gone holds nothing up.
"""

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import httpx2

from app.contracts.frozen import Frozen
from app.contracts.status import JobStatus
from app.storage.db import Database
from app.storage.job_dir import JobDir
from app.storage.repositories import Jobs

log = logging.getLogger(__name__)

WAITS_SECONDS = (1.0, 10.0)
"""Between the tries."""
TIMEOUT_SECONDS = 10.0


class JobEnded(Frozen):
    """What is sent."""

    event: str = "job.ended"
    job_id: str
    name: str
    status: JobStatus
    model_id: str
    dataset_name: str
    finished_at: str | None
    error_code: str | None
    loss_before: float | None
    """On held-out rows, as is the next; None without a report."""
    loss_after: float | None


class Webhook:
    """Sends notices to one address; to nobody where it is empty."""

    def __init__(self, url: str, data_dir: Path, database: Database, waits_seconds: Sequence[float] = WAITS_SECONDS) -> None:
        self._url, self._data_dir, self._database, self._waits = url, data_dir, database, waits_seconds

    def tell(self, job_id: str) -> None:
        """Send the end of a job in the background."""
        if self._url:
            threading.Thread(target=self._send, args=(job_id,), name="webhook", daemon=True).start()

    def _send(self, job_id: str) -> None:
        notice = self._describe(job_id)
        if notice is None:
            return
        for wait_seconds in (*self._waits, None):
            try:
                answer = httpx2.post(
                    self._url,
                    content=notice.model_dump_json().encode(),
                    headers={"Content-Type": "application/json"},
                    timeout=TIMEOUT_SECONDS,
                )
                answer.raise_for_status()
            except (httpx2.HTTPError, httpx2.InvalidURL) as problem:
                # Its class alone: the message may hold the address, and that a secret.
                log.warning("The webhook could not be told that job %s ended (%s).", job_id, type(problem).__name__)
                if wait_seconds is not None:
                    time.sleep(wait_seconds)
            else:
                return

    def _describe(self, job_id: str) -> JobEnded | None:
        with self._database.reading() as session:
            row = Jobs(session).find(job_id)
            if row is None:
                return None
            report = JobDir(self._data_dir / "jobs" / job_id).find_report()
            return JobEnded(
                job_id=job_id,
                name=row.name,
                status=JobStatus(row.status),
                model_id=row.model_id,
                dataset_name=row.dataset_name,
                finished_at=row.finished_at,
                error_code=row.error_code,
                loss_before=report.loss_before if report else None,
                loss_after=report.loss_after if report else None,
            )
