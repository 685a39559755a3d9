"""A real server process on a real port: killed, restarted, stopped, and asked by clients that go away."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.core.settings import Settings
from app.storage.db import Database
from app.storage.job_dir import JobDir
from app.storage.repositories import Events
from tests.api.conftest import dataset_id

SERVE = "from app.core.settings import Settings; from app.main import serve; serve(Settings())"


class LiveServer:
    """`serve()` in a process of its own."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.data_dir = data_dir
        names = {"data_dir": str(data_dir), "port": str(self.port), **settings}
        self.environment = {**os.environ, **{f"AFFINAGE_{name.upper()}": value for name, value in names.items()}}
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = self.spawn()
        deadline = time.monotonic() + 120
        while True:
            try:
                assert self.client.get("/api/health").status_code == 200
                return
            except httpx2.TransportError:
                assert time.monotonic() < deadline and self.process.poll() is None
                time.sleep(0.05)

    def spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", SERVE], env=self.environment)

    def send(self, kind: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(kind)

    def end(self, kind: signal.Signals) -> int:
        assert self.process is not None
        self.send(kind)
        return self.process.wait(timeout=120)

    def follow(self, job_id: str, after: int | None) -> Iterator[dict[str, Any]]:
        """Yield events as a browser does; ends when the stream does."""
        headers = {"Last-Event-ID": str(after)} if after is not None else {}
        with self.client.stream("GET", f"/api/jobs/{job_id}/events", headers=headers) as stream:
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGTERM)
        for folder in (self.data_dir / "jobs").iterdir():
            identity = JobDir(folder).find_process()
            if identity is not None and Path(f"/proc/{identity.pid}").exists():
                os.killpg(identity.pid, signal.SIGKILL)
        self.client.close()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, database_kind: str) -> Iterator[LiveServer]:
    server = LiveServer(tmp_path_factory.mktemp("live") / "data")
    server.start()
    yield server
    server.close()


@pytest.mark.both_databases
def test_the_server_is_killed_while_training_and_the_next_one_goes_on_where_it_stopped(tmp_path: Path, tiny_model: Path) -> None:
    server = LiveServer(tmp_path / "data", model_roots=str(tiny_model.parent))
    server.start()
    try:
        body = {"dataset_id": dataset_id(server.client), "model_name": str(tiny_model), "num_epochs": 1000}
        job_id = server.client.post("/api/start-finetuning", json={**body, "batch_size": 1}).json()["job_id"]
        seen: list[dict[str, Any]] = []
        for event in server.follow(job_id, None):
            seen.append(event)
            if event["kind"] == "step_logged" and event["step"] >= 5:
                break
        job_dir = JobDir(server.data_dir / "jobs" / job_id)
        trainer = job_dir.find_process()
        assert trainer is not None
        server.end(signal.SIGKILL)
        lines_at_death = job_dir.events_file.read_bytes().count(b"\n")
        deadline = time.monotonic() + 120
        while job_dir.events_file.read_bytes().count(b"\n") <= lines_at_death:
            assert time.monotonic() < deadline, "training stopped with the server"
            time.sleep(0.05)

        server.start()
        assert server.client.get(f"/api/jobs/{job_id}").json()["status"] == "running"
        killed = cancelled = False
        for event in server.follow(job_id, seen[-1]["seq"]):
            seen.append(event)
            if len(seen) > lines_at_death + 10 and not killed:
                os.kill(trainer.pid, signal.SIGKILL)
                killed = True
            tried_again = any(one["kind"] == "noted" and one["key"] == "worker_killed.retry" for one in seen)
            if tried_again and event["kind"] == "step_logged" and not cancelled:
                assert server.client.post(f"/api/jobs/{job_id}/cancel").status_code == 200
                cancelled = True

        assert seen[-1]["kind"] == "status_changed" and seen[-1]["status"] == "cancelled"
        assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))
        written = [event.model_dump(mode="json") for event in job_dir.read_events()]
        assert seen == written
        database = Database(Settings(data_dir=server.data_dir).resolved_database_url)
        with database.reading() as session:
            assert [json.loads(row.body) for row in Events(session).after(job_id, 0, limit=100_000)] == written
        database.close()
        notices = server.client.get(f"/api/jobs/{job_id}", headers={"Accept-Language": "fr"}).json()["notices"]
        assert any(notice["code"] == "worker_killed" and "de l’extérieur" in notice["message"] for notice in notices)
    finally:
        server.close()


def test_an_upload_that_breaks_off_leaves_nothing(live: LiveServer) -> None:
    head = (
        "POST /api/datasets HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n"
        "Content-Type: multipart/form-data; boundary=cut\r\n\r\n"
        '--cut\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
    )
    temporary = live.data_dir / "tmp"
    with socket.create_connection(("127.0.0.1", live.port)) as connection:
        connection.sendall(head.encode() + b"question,answer\n" * 100_000)
        deadline = time.monotonic() + 120
        while not list(temporary.iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    deadline = time.monotonic() + 120
    while list(temporary.iterdir()):
        assert time.monotonic() < deadline, "the half file is still there"
        time.sleep(0.02)
    assert live.client.get("/api/datasets").json() == {"datasets": []}


def test_an_import_whose_sender_is_gone_ends_and_leaves_nothing(live: LiveServer) -> None:
    row = b'{"question": "What is in the cellar of the house?", "answer": "' + b"A barrel of wine. " * 20 + b'"}\n'
    content = row * 150_000
    tail = b"\r\n--cut--\r\n"
    part = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
    head = (
        f"POST /api/datasets HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(part) + len(content) + len(tail)}\r\n"
        "Content-Type: multipart/form-data; boundary=cut\r\n\r\n"
    )
    folders = live.data_dir / "datasets"
    with socket.create_connection(("127.0.0.1", live.port)) as connection:
        for piece in (head.encode(), part, content, tail):
            connection.sendall(piece)
        deadline = time.monotonic() + 120
        while not any(folders.iterdir()):  # the import has begun; it takes ten times as long as the server takes to see us gone
            assert time.monotonic() < deadline
            time.sleep(0.02)
    while any(folders.iterdir()) or any((live.data_dir / "tmp").iterdir()):
        assert time.monotonic() < deadline, "something of the import is still there"
        time.sleep(0.02)
    assert live.client.get("/api/datasets").json() == {"datasets": []}


def test_a_second_server_on_the_same_folder_says_so_and_ends(live: LiveServer) -> None:
    second = LiveServer(live.data_dir)
    ended = subprocess.run([sys.executable, "-c", SERVE], env=second.environment, capture_output=True, timeout=120, check=False)
    assert ended.returncode != 0
    assert f"pid {live.process.pid if live.process else ''}" in ended.stderr.decode()
    assert live.client.get("/api/health").status_code == 200


def test_a_port_that_is_taken_is_named(live: LiveServer, tmp_path: Path) -> None:
    environment = {**live.environment, "AFFINAGE_DATA_DIR": str(tmp_path / "other")}
    ended = subprocess.run([sys.executable, "-c", SERVE], env=environment, capture_output=True, timeout=120, check=False)
    assert ended.returncode != 0 and f"127.0.0.1:{live.port}" in ended.stderr.decode()


def test_the_server_stops_at_once_although_a_browser_follows_a_job(tmp_path: Path, tiny_model: Path) -> None:
    server = LiveServer(tmp_path / "data", model_roots=str(tiny_model.parent))
    server.start()
    body = {"dataset_id": dataset_id(server.client), "model_name": str(tiny_model), "num_epochs": 1000}
    job_id = server.client.post("/api/start-finetuning", json=body).json()["job_id"]
    followed = server.follow(job_id, None)
    next(followed)
    assert server.end(signal.SIGTERM) in (0, -signal.SIGTERM)  # uvicorn raises the signal again when it has tidied up
    list(followed)  # ends without an error: the stream was closed, not cut when the time for it was over
    server.close()
