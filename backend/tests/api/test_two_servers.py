"""Two real server processes over one PostgreSQL and one data folder: a job runs once, and outlives the server that began it."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.storage.db import Database
from app.storage.job_dir import JobDir
from app.storage.repositories import Events, Jobs
from tests.api.conftest import dataset_id
from tests.api.test_live_server import LiveServer
from tests.faults.warm import TRAINERS
from tests.forked import Workers
from tests.postgres import PostgresServer

SERVE = """
import app.jobs.supervisor, app.storage.leases
from tests.faults.warm import serve
app.jobs.supervisor.RENEW_SECONDS, app.storage.leases.LEASE_SECONDS = 0.5, 5.0  # else a minute passes before the other comes
serve()
"""
WAIT_SECONDS = 120


class Sharing(LiveServer):
    """A server that shares a database, and whose trainers need no imports."""

    def spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", SERVE], env=self.environment, cwd=Path(__file__).parents[2])


@pytest.fixture
def servers(postgres: PostgresServer, workers: Workers, tmp_path: Path, tiny_model: Path) -> Iterator[list[Sharing]]:
    url = postgres.create_database()
    settings = {"database_url": url, "model_roots": str(tiny_model.parent), "test_trainers": workers.address}
    made = [Sharing(tmp_path / "data", **settings) for _ in range(2)]
    assert TRAINERS in made[0].environment
    try:
        with ThreadPoolExecutor() as starting:  # at once: they also make the tables and tidy the folder at once
            list(starting.map(Sharing.start, made))
        yield made
    finally:
        for server in made:
            server.close()
        postgres.drop_database(url)


def wait(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_job_runs_once_and_the_other_server_goes_on_when_the_one_that_looks_after_it_is_killed(
    servers: list[Sharing], tiny_model: Path
) -> None:
    data_dir = servers[0].data_dir
    dataset = dataset_id(servers[0].client)

    def start(server: Sharing, **options: Any) -> str:
        body = {"dataset_id": dataset, "model_name": str(tiny_model), "batch_size": 4, "num_epochs": 1, **options}
        answer = server.client.post("/api/start-finetuning", json=body)
        assert answer.status_code == 201, answer.text
        job_id: str = answer.json()["job_id"]
        return job_id

    database = Database(servers[0].environment["AFFINAGE_DATABASE_URL"])

    def keeper(job_id: str) -> int:
        """The number of the process that looks after a job; 0 for none."""
        with database.reading() as session:
            row = Jobs(session).find(job_id)
            assert row is not None
            return int((row.lease_owner or ":0:").split(":")[1])

    try:
        long = start(servers[0], num_epochs=1000, batch_size=1)
        short = [start(server) for server in (servers[1], servers[0])]
        wait(lambda: servers[1].client.get(f"/api/jobs/{long}").json()["progress"]["step"] >= 3)
        trainer = JobDir(data_dir / "jobs" / long).find_process()
        assert trainer is not None
        first = keeper(long)
        killed = next(server for server in servers if server.process is not None and server.process.pid == first)
        left = next(server for server in servers if server is not killed)
        assert left.process is not None
        killed.end(signal.SIGKILL)

        wait(lambda: keeper(long) == left.process.pid)
        before = left.client.get(f"/api/jobs/{long}").json()["progress"]["step"]
        seen: list[dict[str, Any]] = []
        for event in left.follow(long, None):
            seen.append(event)
            if event["kind"] == "step_logged" and event["step"] == before + 3:
                assert JobDir(data_dir / "jobs" / long).find_process() == trainer  # nobody began it anew
                assert left.client.post(f"/api/jobs/{long}/cancel").status_code == 200
        assert seen[-1]["status"] == "cancelled"
        for job_id in short:
            wait(lambda job_id=job_id: left.client.get(f"/api/jobs/{job_id}").json()["status"] == "succeeded")
        killed.start()  # it comes back and finds all as it is
        for job_id in (long, *short):
            assert killed.client.get(f"/api/jobs/{job_id}").json()["status"] in ("cancelled", "succeeded")
            with database.reading() as session:
                stored = [json.loads(row.body) for row in Events(session).after(job_id, 0, limit=100_000)]
                attempt = Jobs(session).find_attempt(job_id)
            assert attempt is not None and attempt.number == 1
            assert stored == [event.model_dump(mode="json") for event in JobDir(data_dir / "jobs" / job_id).read_events()]
            assert [event["seq"] for event in stored] == list(range(1, len(stored) + 1))
            assert [event.get("status") for event in stored].count("starting") == 1
    finally:
        database.close()
