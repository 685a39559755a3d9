"""Followers get what was, what comes, and an end."""

import asyncio
import json
import threading
import time

import pytest

from app.contracts.events import StatusChanged
from app.contracts.status import JobStatus
from app.jobs import broker
from app.jobs.ingest import ingest
from app.storage.repositories import Jobs
from tests.unit.jobs.conftest import Bench

pytestmark = pytest.mark.both_databases


def add(bench: Bench, status: JobStatus) -> None:
    bench.folder("a").append(StatusChanged(status=status))
    with bench.database.writing() as session:
        row = Jobs(session).lock("a")
        assert row is not None
        ingest(session, row, bench.folder("a"))
    bench.broker.wake("a")


async def collect(bench: Bench, after: int = 0) -> list[int]:
    text = b"".join([piece async for piece in bench.broker.follow(bench.database, "a", after)]).decode()
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
