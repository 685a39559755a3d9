"""A real server and its trainers, and the ways in which they are disturbed."""

import os
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2

from app.storage.checkpoint_dir import list_checkpoints
from app.storage.job_dir import JobDir
from tests.api.conftest import dataset_id
from tests.api.test_live_server import LiveServer
from tests.faults.oracle import check_folder, read_losses
from tests.faults.schedule import Stroke, draw

ENDED = ("succeeded", "failed", "cancelled")
PATIENCE_SECONDS = 240.0


class FaultyRun:
    """One data folder with a server; jobs of 24 steps, a checkpoint every second one."""

    def __init__(self, data_dir: Path, model: Path, lock_seconds: float) -> None:
        self.server = LiveServer(data_dir, model_roots=str(model.parent), trace_plans="false", stall_seconds="60")
        self.model = model
        self.lock_seconds = lock_seconds
        self.server.start()
        self.expected: dict[tuple[str, int], set[float]] | None = None

    def start(self, dataset: str, **more: Any) -> str:
        """Queue a job and return its id."""
        body = {"dataset_id": dataset, "model_name": str(self.model), "batch_size": 8, "gradient_accumulation_steps": 1}
        body |= {"num_epochs": 4, "lora_dropout": 0.1, "checkpoint_every_steps": 2, "seed": 5}
        answer = self.server.client.post("/api/start-finetuning", json={**(body if not more else {}), **more})
        assert answer.status_code == 201, answer.text
        started: str = answer.json()["job_id"]
        return started

    def folder(self, job_id: str) -> JobDir:
        return JobDir(self.server.data_dir / "jobs" / job_id)

    def status(self, job_id: str) -> str:
        found: str = self.server.client.get(f"/api/jobs/{job_id}").json()["status"]
        return found

    def wait(self, check: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not check():
            assert time.monotonic() < deadline, what
            time.sleep(0.03)

    def finish(self, job_id: str) -> str:
        """Wait for the end and return the status."""
        self.wait(lambda: self.status(job_id) in ENDED, f"{job_id} does not end: {self.server.client.get('/api/jobs').text}")
        return self.status(job_id)

    def run_undisturbed(self) -> None:
        """Learn what every other run must end with."""
        job_id = self.start(dataset_id(self.server.client))
        assert self.finish(job_id) == "succeeded", self.folder(job_id).log_file.read_text()
        self.expected = read_losses(self.folder(job_id))
        assert len(self.expected) > 24 and all(len(values) == 1 for values in self.expected.values())

    def run(self, seed: int) -> list[str]:
        """Run one schedule; return what is wrong afterwards."""
        dataset = dataset_id(self.server.client)
        jobs = [self.start(dataset)]
        for stroke in draw(seed):
            self.wait_for_event(jobs[-1], stroke.at_event)
            successor = self.strike(stroke, jobs[-1], dataset)
            if successor is not None:
                jobs.append(successor)
        end = self.finish(jobs[-1])
        wrong = [] if end == "succeeded" else [f"{jobs[-1]} {end}"]
        self.wait(lambda: not check_folder(self.server.data_dir) or self.is_idle(), "the trainer's process stays")
        wrong += check_folder(self.server.data_dir)
        merged: dict[tuple[str, int], set[float]] = {}
        for job_id in jobs:
            for place, values in read_losses(self.folder(job_id)).items():
                merged.setdefault(place, set()).update(values)
        if self.expected is not None and merged != self.expected:
            differing = sorted(place for place in {*merged, *self.expected} if merged.get(place) != self.expected.get(place))
            wrong.append(f"losses differ from those of the undisturbed run at {differing[:5]}")
        return wrong

    def is_idle(self) -> bool:
        return all(self.trainer(folder.name) is None for folder in (self.server.data_dir / "jobs").iterdir())

    def wait_for_event(self, job_id: str, count: int) -> None:
        """Wait until the job has written so many events, or has ended."""
        events = self.folder(job_id).events_file
        self.wait(lambda: events.read_bytes().count(b"\n") >= count or self.status(job_id) in ENDED, f"no event {count}")

    def trainer(self, job_id: str) -> int | None:
        """Return the pid of the job's trainer, where one lives."""
        identity = self.folder(job_id).find_process()
        return identity.pid if identity is not None and Path(f"/proc/{identity.pid}").exists() else None

    def signal_trainer(self, job_id: str, kind: signal.Signals) -> None:
        pid = self.trainer(job_id)
        if pid is not None:
            try:
                os.killpg(pid, kind)
            except ProcessLookupError:
                return

    def strike(self, stroke: Stroke, job_id: str, dataset: str) -> str | None:
        """Let one fault happen; return the job that goes on where this one was ended on purpose."""
        match stroke.fault:
            case "kill_trainer":
                self.signal_trainer(job_id, signal.SIGKILL)
            case "terminate_trainer":
                self.signal_trainer(job_id, signal.SIGTERM)
            case "freeze_trainer":
                self.signal_trainer(job_id, signal.SIGSTOP)
                time.sleep(1.0)
                self.signal_trainer(job_id, signal.SIGCONT)
            case "kill_server" | "kill_both":
                self.server.end(signal.SIGKILL)
                if stroke.fault == "kill_both":
                    self.signal_trainer(job_id, signal.SIGKILL)
                self.server.start()
            case "pause_and_resume":
                if self.post(job_id, "pause").status_code == 200:
                    self.wait(lambda: self.status(job_id) in ("paused", *ENDED), "it does not pause")
                    self.post(job_id, "resume")
            case "damage_checkpoint":
                self.signal_trainer(job_id, signal.SIGKILL)  # the next one needs seconds before it reads the checkpoint
                self.damage(job_id, stroke)
            case "lock_database":
                self.lock_database()
            case "delete_dataset":
                self.server.client.delete(f"/api/datasets/{dataset}")
            case "cancel_and_continue":
                return self.cancel_and_continue(job_id, dataset)
        return None

    def post(self, job_id: str, move: str) -> httpx2.Response:
        return self.server.client.post(f"/api/jobs/{job_id}/{move}")

    def damage(self, job_id: str, stroke: Stroke) -> None:
        """Spoil one file of the newest checkpoint, as a bad disk would."""
        found = list_checkpoints(self.folder(job_id).checkpoints)
        if not found or not (found[0] / stroke.file).exists():
            return
        file = found[0] / stroke.file
        content = file.read_bytes()
        file.unlink()
        if stroke.damage == "cut":
            file.write_bytes(content[: len(content) // 2])
        elif stroke.damage == "changed":
            file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    def lock_database(self) -> None:
        """Hold the write lock as a slow backup would."""
        connection = sqlite3.connect(self.server.data_dir / "affinage.db", isolation_level=None, timeout=30)
        try:
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(self.lock_seconds)
            connection.execute("ROLLBACK")
        finally:
            connection.close()

    def cancel_and_continue(self, job_id: str, dataset: str) -> str | None:
        if self.post(job_id, "cancel").status_code != 200 or self.finish(job_id) != "cancelled":
            return None
        start = {"dataset_id": dataset, "model_name": str(self.model), "resume_from": {"job_id": job_id}}
        answer = self.server.client.post("/api/start-finetuning", json=start)
        if answer.status_code == 409:  # nothing was saved yet: from the beginning
            return self.start(dataset_id(self.server.client))
        assert answer.status_code == 201, answer.text
        continued: str = answer.json()["job_id"]
        return continued

    def close(self) -> None:
        self.server.close()
