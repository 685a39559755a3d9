"""Pass the events of jobs on to those who follow them. The database holds the events; here lie only the newest ones.

However many follow a job, its new events are read once and turned into bytes once: one task per followed job reads, and
every follower that has kept up sends the same bytes. One that begins, or comes late, catches up from the database; those
who ask for the same at the same time share one read. The more follow, the longer events are gathered before they are sent.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from app.storage.db import Database
from app.storage.repositories import Events, Jobs, StoredEvent

POLL_SECONDS = 2.0
"""A followed job is looked at this often even when nobody rings: another process may have taken events in."""
PING_SECONDS = 15.0
"""A silent stream says that it lives this often: proxies cut those that do not (HTML standard, server-sent events)."""
PING = b": ping\n\n"
GATHER_SECONDS = 0.0025
"""For each follower, how long events are gathered: sending one piece to 200 costs some 15 ms of a core, so they get one each
half a second."""
RECENT_BATCHES = 32
"""Batches that followers may lag behind before they have to ask the database."""
PAST_BATCHES = 8
"""Batches that were read for one that began, kept for the next: after a restart of the server all begin again."""


@dataclass(frozen=True)
class Batch:
    """Events that follow each other, as one piece of a stream."""

    after: int
    """The seq before the first."""
    last: int
    """The seq of the last."""
    payload: bytes

    @classmethod
    def of(cls, after: int, rows: Sequence[StoredEvent]) -> "Batch":
        """Return rows (at least one) in the wire format of server-sent events."""
        text = "".join(f"data: {row.body}\nid: {row.seq}\n\n" for row in rows)
        return cls(after=after, last=rows[-1].seq, payload=text.encode())


class Feed:
    """The newest events of one followed job. Lives on the server's event loop, as long as somebody follows."""

    def __init__(self, database: Database, job_id: str) -> None:
        self._database = database
        self._job_id = job_id
        self._recent: OrderedDict[int, Batch] = OrderedDict()
        self._past: OrderedDict[int, Batch] = OrderedDict()
        self._bell = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.followers = 0
        self.last: int | None = None
        """The seq up to which this feed has read; None before it has looked at all."""
        self.over = False
        """True once nothing more will come: the job has ended, or the database failed (a follower then comes back)."""
        self.changed = asyncio.Event()
        """Set when there is something new; a fresh one takes its place."""
        self.pings = 0
        """How often it had to be said that silent streams live."""
        self._reading: dict[tuple[int, int | None], asyncio.Task[tuple[Batch | None, bool]]] = {}
        self.task = asyncio.create_task(self._run())

    def ring(self) -> None:
        """Look into the database now."""
        self._bell.set()

    def find(self, after: int) -> Batch | None:
        """Return the batch that begins right after a seq, where it is still here."""
        return self._recent.get(after) or self._past.get(after)

    async def catch_up(self, after: int) -> tuple[Batch | None, bool]:
        """Return the next events of the database and whether the job has ended, with one read for all who ask meanwhile.

        Who asks later than this feed has read on gets a read of its own: what came in between must not be missed.
        """
        place = (after, self.last)
        reading = self._reading.get(place)
        if reading is None:
            reading = self._reading[place] = asyncio.create_task(self._read_past(after))
            reading.add_done_callback(lambda _: self._reading.pop(place, None))
        return await asyncio.shield(reading)

    async def _read_past(self, after: int) -> tuple[Batch | None, bool]:
        batch, ended = await self._read(after)
        if batch is not None:  # events never change: it stays right, whatever comes after it
            keep_newest(self._past, batch, PAST_BATCHES)
        return batch, ended

    async def _read(self, after: int) -> tuple[Batch | None, bool]:
        rows, ended = await asyncio.to_thread(read_after, self._database, self._job_id, after)
        return Batch.of(after, rows) if rows else None, ended

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
        silent_since = self.loop.time()
        while True:
            self._bell.clear()
            batch, ended = await self._read(self.last)
            if batch is not None:
                keep_newest(self._recent, batch, RECENT_BATCHES)
                self.last = batch.last
            elif ended:
                return
            elif self.loop.time() - silent_since > PING_SECONDS:
                self.pings += 1
            else:
                await self._wait()
                continue
            silent_since = self.loop.time()
            self.announce()
            await asyncio.sleep(self.followers * GATHER_SECONDS)

    async def _wait(self) -> None:
        try:
            await asyncio.wait_for(self._bell.wait(), POLL_SECONDS)
        except TimeoutError:
            return


def keep_newest(kept: OrderedDict[int, Batch], batch: Batch, most: int) -> None:
    """Keep a batch by the seq before it, and no more than so many."""
    kept[batch.after] = batch
    if len(kept) > most:
        kept.popitem(last=False)


class Broker:
    """Knows who is followed, and rings their feeds from the supervisor's thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._feeds: dict[str, Feed] = {}
        self._looks: dict[str, asyncio.Task[bool]] = {}
        self._closed = False

    def wake(self, job_id: str) -> None:
        """Tell the followers of a job that there is something new. Safe in any thread."""
        with self._lock:
            feed = self._feeds.get(job_id)
        if feed is not None and not feed.loop.is_closed():
            feed.loop.call_soon_threadsafe(feed.ring)

    async def exists(self, database: Database, job_id: str) -> bool:
        """Whether there is such a job. One look for all who ask meanwhile, and none where it is followed already.

        Two hundred who begin at once would otherwise be two hundred threads' work, all before anybody's call for a list.
        """
        with self._lock:
            feed = self._feeds.get(job_id)
        if feed is not None and feed.last and not feed.over:
            return True
        loop = asyncio.get_running_loop()
        look = self._looks.get(job_id)
        if look is None or look.get_loop() is not loop:
            look = self._looks[job_id] = loop.create_task(asyncio.to_thread(is_known, database, job_id))
            look.add_done_callback(lambda _: self._looks.pop(job_id, None))
        return await asyncio.shield(look)

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
        pings = feed.pings
        try:
            while not self._closed:
                changed = feed.changed  # taken before looking: what comes meanwhile has set it
                batch = feed.find(after)
                if batch is None and feed.last != after:  # it begins, it lags, or the feed has not looked yet
                    batch, ended = await feed.catch_up(after)
                    if batch is None and ended:
                        return
                if batch is not None:
                    after = batch.last
                    yield batch.payload
                elif feed.over:
                    return
                elif pings != feed.pings:
                    pings = feed.pings
                    yield PING
                else:
                    await changed.wait()
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


def is_known(database: Database, job_id: str) -> bool:
    """Whether there is a job of this name."""
    with database.reading() as session:
        return Jobs(session).find_status(job_id) is not None


def read_position(database: Database, job_id: str) -> int:
    """Return the seq of the last event that was taken in; 0 for a job that is gone."""
    with database.reading() as session:
        row = Jobs(session).find(job_id)
        return row.last_seq if row is not None else 0


def read_after(database: Database, job_id: str, after: int) -> tuple[Sequence[StoredEvent], bool]:
    """Return the next events and whether the job has ended, both from one state of the database."""
    with database.reading() as session:
        status = Jobs(session).find_status(job_id)
        return Events(session).after(job_id, after), status is None or status.terminal
