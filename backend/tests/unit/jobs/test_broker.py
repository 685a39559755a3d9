"""Followers get what was, what comes, and an end."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Sequence

import pytest

from app.contracts.events import PhaseStarted, StatusChanged
from app.contracts.status import JobStatus
from app.jobs import broker
from app.jobs.ingest import ingest
from app.storage.db import Database
from app.storage.repositories import Jobs, StoredEvent
from tests.unit.jobs.conftest import Bench

pytestmark = pytest.mark.both_databases


def add(bench: Bench, status: JobStatus) -> None:
    bench.folder("a").append(StatusChanged(status=status))
    with bench.database.writing() as session:
        row = Jobs(session).lock("a")
        assert row is not None
        ingest(session, row, bench.folder("a"))
    bench.broker.wake("a")


async def collect(bench: Bench, after: int = 0, pieces: list[bytes] | None = None) -> list[int]:
    pieces = [] if pieces is None else pieces
    async for piece in bench.broker.follow(bench.database, "a", after):
        pieces.append(piece)
    text = b"".join(pieces).decode()
    bodies = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    assert [int(line.removeprefix("id: ")) for line in text.splitlines() if line.startswith("id: ")] == [
        body["seq"] for body in bodies
    ]
    return [body["seq"] for body in bodies]


def test_a_follower_sees_past_and_coming_events_until_the_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "POLL_SECONDS", 3600.0)  # only the bell can wake it
    bench.queue("a", [])

    def live() -> None:
        for status in (JobStatus.STARTING, JobStatus.RUNNING, JobStatus.SUCCEEDED):
            time.sleep(0.1)
            add(bench, status)

    writer = threading.Thread(target=live)
    writer.start()
    assert asyncio.run(collect(bench)) == [1, 2, 3, 4]
    writer.join()
    assert asyncio.run(collect(bench, after=3)) == [4]
    assert asyncio.run(collect(bench, after=4)) == []


def test_closing_the_broker_ends_followers_of_jobs_that_go_on(bench: Bench) -> None:
    bench.queue("a", [])
    closer = threading.Timer(0.2, bench.broker.close)
    closer.start()
    assert asyncio.run(collect(bench)) == [1]
    closer.join()


def test_a_job_that_is_deleted_while_followed_ends_the_stream(bench: Bench) -> None:
    bench.queue("a", [])

    def delete() -> None:
        with bench.database.writing() as session:
            row = Jobs(session).find("a")
            assert row is not None
            Jobs(session).delete(row)
        bench.broker.wake("a")

    deleter = threading.Timer(0.2, delete)
    deleter.start()
    assert asyncio.run(collect(bench)) == [1]
    deleter.join()


def test_many_followers_cost_one_read_of_each_event(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.queue("a", [])
    reads: list[int] = []
    real = broker.read_after
    monkeypatch.setattr(broker, "POLL_SECONDS", 3600.0)

    def count(database: Database, job_id: str, after: int) -> tuple[Sequence[StoredEvent], bool]:
        reads.append(after)
        return real(database, job_id, after)

    async def follow_all() -> list[list[int]]:
        pieces: list[list[bytes]] = [[] for _ in range(50)]
        followers = [asyncio.create_task(collect(bench, pieces=own)) for own in pieces]
        while not all(pieces) or bench.broker._feeds["a"].last != 1:  # until each has caught up
            await asyncio.sleep(0.01)
        reads.clear()
        for status in (JobStatus.STARTING, JobStatus.RUNNING, JobStatus.SUCCEEDED):
            await asyncio.to_thread(add, bench, status)
        return await asyncio.gather(*followers)

    monkeypatch.setattr(broker, "read_after", count)
    assert asyncio.run(follow_all()) == [[1, 2, 3, 4]] * 50
    assert len(reads) < 50  # at worst each event alone, and once more to see the end: not 50 times each


def test_many_who_begin_at_once_share_the_reads_of_what_was(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.queue("a", [])
    for status in (JobStatus.STARTING, JobStatus.RUNNING, JobStatus.SUCCEEDED):
        add(bench, status)
    reads: list[int] = []
    real = broker.read_after

    def read_slowly(database: Database, job_id: str, after: int) -> tuple[Sequence[StoredEvent], bool]:
        reads.append(after)
        time.sleep(0.2)  # until all have asked
        return real(database, job_id, after)

    async def follow_all() -> list[list[int]]:
        return await asyncio.gather(*(collect(bench) for _ in range(50)))

    monkeypatch.setattr(broker, "read_after", read_slowly)
    assert asyncio.run(follow_all()) == [[1, 2, 3, 4]] * 50
    assert len(reads) < 10


def test_many_who_begin_at_once_share_one_look_whether_there_is_such_a_job(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.queue("a", [])
    looks: list[str] = []
    real = broker.is_known

    def look(database: Database, job_id: str) -> bool:
        looks.append(job_id)
        return real(database, job_id)

    async def ask_all(job_id: str) -> set[bool]:
        return set(await asyncio.gather(*(bench.broker.exists(bench.database, job_id) for _ in range(50))))

    monkeypatch.setattr(broker, "is_known", look)
    assert asyncio.run(ask_all("a")) == {True}
    assert asyncio.run(ask_all("b")) == {False}
    assert looks == ["a", "b"]
    bench.queue("b", [])
    assert asyncio.run(ask_all("b")) == {True}  # what was found is not kept


def test_a_silent_stream_says_that_it_lives(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(broker, "PING_SECONDS", 0.05)
    bench.queue("a", [])

    async def follow_in_silence() -> list[bytes]:
        stream = bench.broker.follow(bench.database, "a", 1)
        found = [await anext(stream) for _ in range(3)]
        await stream.aclose()
        return found

    assert asyncio.run(follow_in_silence()) == [broker.PING] * 3


def test_a_follower_that_lags_behind_what_is_kept_misses_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "RECENT_BATCHES", 2)
    bench.queue("a", [])

    async def follow_slowly() -> list[bytes]:
        stream = bench.broker.follow(bench.database, "a", 0)
        pieces = [await anext(stream)]
        quick = asyncio.create_task(collect(bench))
        for step in range(1, 12):
            bench.folder("a").append(PhaseStarted(phase="training")) if step > 1 else None
            await asyncio.to_thread(add, bench, JobStatus.STARTING if step == 1 else JobStatus.RUNNING)
        await asyncio.to_thread(add, bench, JobStatus.SUCCEEDED)
        assert await quick == list(range(1, bench.row("a").last_seq + 1))
        return pieces + [piece async for piece in stream]

    text = b"".join(asyncio.run(follow_slowly())).decode()
    assert [int(line.removeprefix("id: ")) for line in text.splitlines() if line.startswith("id: ")] == list(
        range(1, bench.row("a").last_seq + 1)
    )


def test_followers_come_back_by_themselves_when_the_database_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.queue("a", [])

    def fail(*_: object) -> None:
        raise OSError("the disk is gone")

    async def follow_into_trouble() -> list[bytes]:
        stream = bench.broker.follow(bench.database, "a", 0)
        pieces = [await anext(stream)]
        while bench.broker._feeds["a"].last is None:
            await asyncio.sleep(0.01)
        monkeypatch.setattr(broker, "read_after", fail)
        bench.broker.wake("a")
        with contextlib.suppress(OSError):
            pieces += [piece async for piece in stream]
        return pieces

    assert len(asyncio.run(follow_into_trouble())) == 1
    assert bench.broker._feeds == {}
