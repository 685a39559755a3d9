"""Pass the events of jobs on to those who follow them. The database holds the events; here lie only the newest ones.

However many follow a job, its new events are read once and turned into bytes once: one task per followed job reads, and
every follower that has kept up sends the same bytes. One that begins, or comes late, catches up from the database.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from app.storage.db import Database
from app.storage.repositories import Events, Jobs
from app.storage.tables import JobEventRow

POLL_SECONDS = 2.0
"""A followed job is looked at this often even when nobody rings: another process may have taken events in."""
PING_SECONDS = 15.0
"""A silent stream says that it lives this often: proxies cut those that do not (HTML standard, server-sent events)."""
PING = b": ping\n\n"
RECENT_BATCHES = 32
"""Batches that followers may lag behind before they have to ask the database."""


@dataclass(frozen=True)
class Batch:
    """Events that follow each other, as one piece of a stream."""

    after: int
    """The seq before the first."""
    last: int
    """The seq of the last."""
    payload: bytes

    @classmethod
    def of(cls, after: int, rows: Sequence[JobEventRow]) -> "Batch":
        """Return rows (at least one) in the wire format of server-sent events."""
        text = "".join(f"data: {row.body}\nid: {row.seq}\n\n" for row in rows)
        return cls(after=after, last=rows[-1].seq, payload=text.encode())


class Feed:
    """The newest events of one followed job. Lives on the server's event loop, as long as somebody follows."""

    def __init__(self, database: Database, job_id: str) -> None:
        self._database = database
        self._job_id = job_id
        self._recent: OrderedDict[int, Batch] = OrderedDict()
        self._bell = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.followers = 0
        self.last: int | None = None
        """The seq up to which this feed has read; None before it has looked at all."""
        self.over = False
        """True once nothing more will come: the job has ended, or the database failed (a follower then comes back)."""
        self.changed = asyncio.Event()
        """Set when there is something new; a fresh one takes its place."""
        self.task = asyncio.create_task(self._run())

    def ring(self) -> None:
        """Look into the database now."""
        self._bell.set()

    def find(self, after: int) -> Batch | None:
        """Return the batch that begins right after a seq, where it is still here."""
        return self._recent.get(after)

    def announce(self) -> None:
        """Wake every follower."""
        woken, self.changed = self.changed, asyncio.Event()
        woken.set()

    async def _run(self) -> None:
        try:
            await self._read_on()
        finally:
            self.over = True
            self.announce()

    async def _read_on(self) -> None:
        self.last = await asyncio.to_thread(read_position, self._database, self._job_id)
        self.announce()  # who found nothing before this look has to look once more
        while True:
            self._bell.clear()
            rows, ended = await asyncio.to_thread(read_after, self._database, self._job_id, self.last)
            if rows:
                batch = Batch.of(self.last, rows)
                self._recent[self.last] = batch
                if len(self._recent) > RECENT_BATCHES:
                    self._recent.popitem(last=False)
                self.last = batch.last
                self.announce()
            elif ended:
                return
            else:
                try:
                    await asyncio.wait_for(self._bell.wait(), POLL_SECONDS)
                except TimeoutError:
                    continue


class Broker:
    """Knows who is followed, and rings their feeds from the supervisor's thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._feeds: dict[str, Feed] = {}
        self._closed = False

    def wake(self, job_id: str) -> None:
        """Tell the followers of a job that there is something new. Safe in any thread."""
        with self._lock:
            feed = self._feeds.get(job_id)
        if feed is not None and not feed.loop.is_closed():
            feed.loop.call_soon_threadsafe(feed.ring)

    def close(self) -> None:
        """End every follower: the server stops. Browsers come back by themselves with Last-Event-ID."""
        self._closed = True
        with self._lock:
            feeds = list(self._feeds.values())
        for feed in feeds:
            if not feed.loop.is_closed():
                feed.loop.call_soon_threadsafe(feed.announce)

    async def follow(self, database: Database, job_id: str, after: int) -> AsyncIterator[bytes]:
        """Yield the events with `seq > after` as pieces of a stream, until the job has ended (or is deleted)."""
        feed = self._join(database, job_id)
        try:
            while not self._closed:
                changed = feed.changed  # taken before looking: what comes meanwhile has set it
                batch = feed.find(after)
                if batch is None and feed.last != after:  # it begins, it lags, or the feed has not looked yet
                    rows, ended = await asyncio.to_thread(read_after, database, job_id, after)
                    if not rows and ended:
                        return
                    batch = Batch.of(after, rows) if rows else None
                if batch is not None:
                    after = batch.last
                    yield batch.payload
                elif feed.over:
                    return
                else:
                    try:
                        await asyncio.wait_for(changed.wait(), PING_SECONDS)
                    except TimeoutError:
                        yield PING
        finally:
            self._leave(job_id, feed)

    def _join(self, database: Database, job_id: str) -> Feed:
        with self._lock:
            feed = self._feeds.get(job_id)
            if feed is None or feed.over or feed.loop is not asyncio.get_running_loop():
                feed = self._feeds[job_id] = Feed(database, job_id)
            feed.followers += 1
            return feed

    def _leave(self, job_id: str, feed: Feed) -> None:
        with self._lock:
            feed.followers -= 1
            if feed.followers:
                return
            if self._feeds.get(job_id) is feed:
                del self._feeds[job_id]
        feed.task.cancel()


def read_position(database: Database, job_id: str) -> int:
    """Return the seq of the last event that was taken in; 0 for a job that is gone."""
    with database.reading() as session:
        row = Jobs(session).find(job_id)
        return row.last_seq if row is not None else 0


def read_after(database: Database, job_id: str, after: int) -> tuple[Sequence[JobEventRow], bool]:
    """Return the next events and whether the job has ended, both from one state of the database."""
    with database.reading() as session:
        status = Jobs(session).find_status(job_id)
        return Events(session).after(job_id, after), status is None or status.terminal
