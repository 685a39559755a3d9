"""Wake those who follow a job when it has new events. Holds no events: the database does."""

import asyncio
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

from app.contracts.status import JobStatus
from app.storage.db import Database
from app.storage.repositories import Events, Jobs
from app.storage.tables import JobEventRow

POLL_SECONDS = 2.0
"""A follower looks by itself this often: another process may have taken events in."""


class Broker:
    """Bell between the supervisor's thread and the followers on the server's event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = defaultdict(set)
        self._closed = False

    def wake(self, job_id: str) -> None:
        """Tell the followers of a job that there is something new. Safe in any thread."""
        with self._lock:
            bells = list(self._waiting.get(job_id, ()))
        for loop, bell in bells:
            if not loop.is_closed():
                loop.call_soon_threadsafe(bell.set)

    def close(self) -> None:
        """End every follower: the server stops. Browsers come back by themselves with Last-Event-ID."""
        self._closed = True
        with self._lock:
            job_ids = list(self._waiting)
        for job_id in job_ids:
            self.wake(job_id)

    async def follow(self, database: Database, job_id: str, after: int) -> AsyncIterator[JobEventRow]:
        """Yield the events with `seq > after`, past ones first, until the job has ended (or is deleted)."""
        bell = asyncio.Event()
        entry = (asyncio.get_running_loop(), bell)
        with self._lock:
            self._waiting[job_id].add(entry)
        try:
            while not self._closed:
                bell.clear()
                rows, ended = await asyncio.to_thread(read_after, database, job_id, after)
                for row in rows:
                    after = row.seq
                    yield row
                if rows:
                    continue
                if ended:
                    return
                try:
                    await asyncio.wait_for(bell.wait(), POLL_SECONDS)
                except TimeoutError:
                    continue
        finally:
            with self._lock:
                self._waiting[job_id].discard(entry)
                if not self._waiting[job_id]:
                    del self._waiting[job_id]


def read_after(database: Database, job_id: str, after: int) -> tuple[Sequence[JobEventRow], bool]:
    """Return the next events and whether the job has ended, both from one state of the database."""
    with database.reading() as session:
        row = Jobs(session).find(job_id)
        return Events(session).after(job_id, after), row is None or JobStatus(row.status).terminal
