"""A real server and its trainers, and the ways in which they are disturbed."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2

from app.storage.checkpoint_dir import list_checkpoints
from app.storage.job_dir import JobDir
from tests.api.conftest import dataset_id
from tests.api.test_live_server import SERVE, LiveServer
from tests.faults.copies import boot_copy, copy_frozen, copy_torn
from tests.faults.oracle import Losses, check_folder, compare_losses, read_losses
from tests.faults.places import Clock, SmallDisk
from tests.faults.schedule import Schedule, Stroke
from tests.faults.warm import Warm, WarmServer

ENDED = ("succeeded", "failed", "cancelled")
PATIENCE_SECONDS = 150.0
FREEZE_SECONDS = 1.0
FULL_SECONDS = 1.0
ASK_SECONDS = 0.1
"""Between two questions to the server: asking without a pause takes a core from the training that is disturbed."""
LOOK_SECONDS = 0.004
"""Between two looks at the file of events."""


class FaultyRun:
    """One data folder with a server; jobs of 20 steps, a checkpoint every second one."""

    def __init__(self, workplace: Path, model: Path, *, cold: bool = False) -> None:
        """`cold`: servers and trainers import everything at each start, as users' do."""
        workplace.mkdir()
        self.workplace = workplace
        self.model = Path(shutil.copytree(model, workplace / "models" / "tiny"))
        self.disk = SmallDisk.find(workplace / "disk")
        self.clock = Clock.find(workplace)
        environment = {"OMP_NUM_THREADS": "1", **(self.clock.environment if self.clock else {})}
        self.warm = None if cold else Warm(workplace, environment)
        self.environment = environment
        self.server = self.make_server(workplace / "disk" / "data")
        self.server.start()
        self.expected: Losses = {}
        self.missed: list[str] = []
        """Faults of the last schedule that found nothing to disturb."""

    def make_server(self, data_dir: Path) -> LiveServer:
        """Return a server, not yet started, whose processes are started as this run's are."""
        settings = {"model_roots": str(self.model.parent), "trace_plans": "false", "stall_seconds": "60"}
        made = (LiveServer if self.warm is None else WarmServer)(data_dir, **settings)
        made.environment |= self.environment
        if isinstance(made, WarmServer) and self.warm is not None:
            made.warm = self.warm
        return made

    @property
    def body(self) -> dict[str, Any]:
        """What a job of these schedules is started with, but for its rows."""
        return {
            "model_name": str(self.model),
            "batch_size": 8,
            "gradient_accumulation_steps": 1,
            "num_epochs": 4,
            "lora_dropout": 0.1,
            "checkpoint_every_steps": 2,
            "seed": 5,
            "report_rows": 1,  # compared too, so that it may be killed there
        }

    def start(self, dataset: str, key: str | None = None) -> str:
        """Queue a job and return its id."""
        headers = {} if key is None else {"Idempotency-Key": key}
        answer = self.server.client.post("/api/start-finetuning", json={**self.body, "dataset_id": dataset}, headers=headers)
        assert answer.status_code == 201, answer.text
        started: str = answer.json()["job_id"]
        return started

    def start_while_the_server_dies(self, dataset: str, after_seconds: float) -> str:
        """Ask, kill the server, and ask its successor with the same Idempotency-Key; return the id of the one job."""
        before = set(self.folders())
        key = f"key-{time.monotonic_ns()}"
        asking = threading.Thread(target=self._ask_once, args=(dataset, key))
        asking.start()
        time.sleep(after_seconds)
        self.server.end(signal.SIGKILL)
        asking.join()
        self.server.start()
        job_id = self.start(dataset, key)
        made = set(self.folders()) - before
        assert made == {job_id}, f"one start made the jobs {made}"
        return job_id

    def _ask_once(self, dataset: str, key: str) -> None:
        try:
            self.start(dataset, key)
        except httpx2.TransportError:
            return

    def folders(self) -> list[str]:
        return [path.name for path in (self.server.data_dir / "jobs").iterdir() if not path.name.startswith(".")]

    def folder(self, job_id: str) -> JobDir:
        return JobDir(self.server.data_dir / "jobs" / job_id)

    def status(self, job_id: str) -> str:
        answer = self.server.client.get(f"/api/jobs/{job_id}")
        assert answer.status_code in (200, 503, 507), answer.text
        found: str = answer.json()["status"] if answer.status_code == 200 else "unknown"
        return found

    def wait(self, check: Callable[[], bool], what: str, every_seconds: float = ASK_SECONDS) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not check():
            assert time.monotonic() < deadline, what
            time.sleep(every_seconds)

    def finish(self, job_id: str) -> str:
        """Wait for the end and return the status."""
        try:
            self.wait(lambda: self.has_ended(job_id), f"{job_id} does not end")
        except AssertionError as problem:
            raise AssertionError(f"{problem}: {self.server.client.get(f'/api/jobs/{job_id}').text[:600]}") from problem
        return self.status(job_id)

    def has_ended(self, job_id: str) -> bool:
        """Say whether it has; a job that was paused for want of room is resumed, as a person would."""
        status = self.status(job_id)
        if status == "paused":
            self.post(job_id, "resume")
        return status in ENDED

    def run_undisturbed(self) -> None:
        """Learn what every other run must end with."""
        job_id = self.start(dataset_id(self.server.client))
        assert self.finish(job_id) == "succeeded", self.folder(job_id).log_file.read_text()
        self.expected = read_losses(self.folder(job_id))
        assert len(self.expected) > 24 and all(len(values) == 1 for values in self.expected.values())

    def run(self, schedule: Schedule) -> list[str]:
        """Run one schedule; return what is wrong afterwards."""
        dataset = dataset_id(self.server.client)
        dies = schedule.server_dies_at_start
        jobs = [self.start(dataset) if dies is None else self.start_while_the_server_dies(dataset, dies)]
        wrong: list[str] = []
        self.missed = []
        for stroke in schedule.strokes:
            self.wait_for_event(jobs[-1], stroke.at_event)
            time.sleep(stroke.delay_seconds)
            if self.written_end(jobs[-1]):
                self.miss(stroke)
            if stroke.fault in ("copy_folder", "torn_copy"):
                wrong += self.copy(stroke, jobs)
                continue
            successor = self.strike(stroke, jobs[-1], dataset)
            if successor is not None:
                jobs.append(successor)
        end = self.finish(jobs[-1])
        if self.clock is not None:
            self.clock.jump(0)
        if end != "succeeded":
            wrong.append(f"{jobs[-1]} {end}: {self.server.client.get(f'/api/jobs/{jobs[-1]}').json()['error']}")
        self.wait(self.is_idle, "the trainer's process stays")
        wrong += check_folder(self.server.data_dir)
        return wrong + compare_losses(self.expected, [self.folder(job_id) for job_id in jobs])

    def is_idle(self) -> bool:
        return not any(self.folder(job_id).is_trained() for job_id in self.folders())

    def wait_for_event(self, job_id: str, count: int) -> None:
        """Wait until the job has written so many events, or has ended."""
        events = self.folder(job_id).events_file
        asked_at = time.monotonic()

        def is_there() -> bool:
            nonlocal asked_at
            if events.read_bytes().count(b"\n") >= count:
                return True
            if time.monotonic() - asked_at < ASK_SECONDS:
                return False
            asked_at = time.monotonic()
            return self.has_ended(job_id)

        self.wait(is_there, f"no event {count} of {job_id}", every_seconds=LOOK_SECONDS)

    def trainer(self, job_id: str) -> int | None:
        """Return the pid of the job's trainer, where one lives."""
        identity = self.folder(job_id).find_process()
        return identity.pid if identity is not None and self.folder(job_id).is_trained() else None

    def signal_trainer(self, job_id: str, kind: signal.Signals) -> bool:
        """Signal the trainer and what it started; say whether one lived."""
        pid = self.trainer(job_id)
        if pid is None:
            return False
        try:
            os.killpg(pid, kind)
        except ProcessLookupError:
            return False
        return True

    def written_end(self, job_id: str) -> bool:
        """Say whether the job's file of events says that it has ended."""
        return any(
            event.kind == "job_failed" or (event.kind == "status_changed" and event.status in ENDED)
            for event in self.folder(job_id).read_events()
        )

    def miss(self, stroke: Stroke) -> None:
        """Note that a fault disturbs nothing."""
        if stroke.name not in self.missed:
            self.missed.append(stroke.name)

    def strike(self, stroke: Stroke, job_id: str, dataset: str) -> str | None:
        """Let one fault happen; return the job that goes on where this one was ended on purpose."""
        match stroke.fault:
            case "kill_trainer" | "terminate_trainer":
                if not self.signal_trainer(job_id, signal.SIGTERM if stroke.fault == "terminate_trainer" else signal.SIGKILL):
                    self.miss(stroke)
            case "freeze_trainer":
                if not self.signal_trainer(job_id, signal.SIGSTOP):
                    self.miss(stroke)
                time.sleep(FREEZE_SECONDS)
                self.signal_trainer(job_id, signal.SIGCONT)
            case "freeze_server":
                self.server.send(signal.SIGSTOP)
                time.sleep(FREEZE_SECONDS)
                self.server.send(signal.SIGCONT)
            case "kill_server" | "kill_both" | "restart_server":
                self.server.end(signal.SIGTERM if stroke.fault == "restart_server" else signal.SIGKILL)
                if stroke.fault == "kill_both":
                    self.signal_trainer(job_id, signal.SIGKILL)
                self.server.start()
            case "second_server":
                self.start_second_server()
            case "pause_and_resume":
                if self.post(job_id, "pause").status_code == 200:
                    self.wait(lambda: self.status(job_id) in ("paused", *ENDED), "it does not pause")
                    self.post(job_id, "resume")
                else:
                    self.miss(stroke)
            case "damage_checkpoint":
                killed = self.signal_trainer(job_id, signal.SIGKILL)
                if not self.damage(job_id, stroke) and not killed:
                    self.miss(stroke)
            case "lock_database":
                self.lock_database(stroke.lock_seconds)
            case "fill_disk":
                if self.disk is None:
                    self.miss(stroke)
                else:
                    self.disk.fill(FULL_SECONDS)
            case "jump_clock":
                if self.clock is None:
                    self.miss(stroke)
                else:
                    self.clock.jump(stroke.clock_seconds)
            case "delete_dataset":
                shutil.rmtree(self.server.data_dir / "datasets" / dataset, ignore_errors=True)
            case "cancel_and_continue":
                if self.post(job_id, "cancel").status_code == 200 and self.finish(job_id) == "cancelled":
                    return self.continue_ended(job_id)
                self.miss(stroke)
            case "remove_model" | "change_model":
                return self.spoil_model(stroke, job_id)
        return None

    def post(self, job_id: str, move: str) -> httpx2.Response:
        return self.server.client.post(f"/api/jobs/{job_id}/{move}")

    def damage(self, job_id: str, stroke: Stroke) -> bool:
        """Spoil one file of the newest checkpoint, as a bad disk would; say whether there was one to spoil."""
        if self.written_end(job_id):
            return False  # nobody looks at a checkpoint again
        if self.folder(job_id).find_report() is not None:
            return False  # it is trained: what is left is the comparison of its adapter
        found = list_checkpoints(self.folder(job_id).checkpoints)
        try:
            file = found[0] / stroke.file
            content = file.read_bytes()
            file.unlink()
        except (IndexError, FileNotFoundError):  # nothing was saved yet, or the next trainer has removed it meanwhile
            return False
        if stroke.damage == "cut":
            file.write_bytes(content[: len(content) // 2])
        elif stroke.damage == "changed":
            file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        return True

    def lock_database(self, seconds: float) -> None:
        """Hold the write lock as a slow backup would."""
        connection = sqlite3.connect(self.server.data_dir / "affinage.db", isolation_level=None, timeout=30)
        try:
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            connection.execute("ROLLBACK")
        finally:
            connection.close()

    def start_second_server(self) -> None:
        """Start another server on the folder: it must say so and end."""
        said = self.workplace / "second-server.log"
        if isinstance(self.server, WarmServer):
            exit_code = self.server.spawn(said).wait(timeout=120)
        else:
            with said.open("wb") as output:
                command = [sys.executable, "-c", SERVE]
                done = subprocess.run(command, env=self.server.environment, stderr=output, check=False, timeout=120)
            exit_code = done.returncode
        assert exit_code != 0, "a second server runs on the folder"
        assert "AlreadyServed" in said.read_text(), said.read_text()[-500:]
        said.unlink()

    def spoil_model(self, stroke: Stroke, job_id: str) -> str | None:
        """Take the model away (or put another in its place) and kill the trainer; then put it back and go on."""
        away = self.model.with_name("away")
        self.model.rename(away)
        try:
            if stroke.fault == "change_model":
                shutil.copytree(away, self.model)
                weights = self.model / "model.safetensors"
                content = weights.read_bytes()
                weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            self.signal_trainer(job_id, signal.SIGKILL)
            end = self.finish(job_id)
        finally:
            shutil.rmtree(self.model, ignore_errors=True)
            away.rename(self.model)
        if end == "succeeded":
            return None
        error = self.server.client.get(f"/api/jobs/{job_id}").json()["error"]
        assert (end, error["code"]) == ("failed", "model_unavailable"), (end, error)
        return self.continue_ended(job_id)

    def continue_ended(self, job_id: str) -> str:
        """Go on from a job that was ended, or start anew where it saved nothing."""
        start: dict[str, Any] = {"dataset_id": self.folder(job_id).read_job().dataset.dataset_id, "model_name": str(self.model)}
        start["resume_from"] = {"job_id": job_id}
        answer = self.server.client.post("/api/start-finetuning", json=start)
        if answer.status_code == 409:
            assert "checkpoint" in answer.json()["error"]["message"], answer.text
            return self.start(dataset_id(self.server.client))
        assert answer.status_code == 201, answer.text
        continued: str = answer.json()["job_id"]
        return continued

    def copy(self, stroke: Stroke, jobs: list[str]) -> list[str]:
        """Copy the data folder now, start a server on the copy and let it end what it holds; return what is wrong."""
        target = self.workplace / f"copy-{time.monotonic_ns()}"
        if stroke.fault == "copy_folder":
            copy_frozen(self, jobs[-1], target)
        else:
            copy_torn(self.server.data_dir, target, stroke.damage)
        wrong = boot_copy(self, target, jobs)
        shutil.rmtree(target)
        return [f"{stroke.fault}: {one}" for one in wrong]

    def close(self) -> None:
        self.server.close()
        if self.warm is not None:
            self.warm.close()
        if self.disk is not None:
            self.disk.close()
