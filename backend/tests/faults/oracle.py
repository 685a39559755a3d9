"""What must hold in a data folder after any fault: one function, used after every schedule."""

import json
import sqlite3
from pathlib import Path

import psutil

from app.contracts.events import EvalLogged, StatusChanged, StepLogged, job_event
from app.contracts.status import NEXT, JobStatus
from app.core.settings import Settings
from app.storage.checkpoint_dir import is_whole, list_checkpoints
from app.storage.db import Database
from app.storage.job_dir import JobDir
from app.storage.repositories import Events, Jobs


def check_folder(data_dir: Path) -> list[str]:
    """Return what is wrong with jobs, events, database, files and processes; nothing, when all is well.

    No job may be active, so that no file is being written.
    """
    wrong = [*_check_database(data_dir / "affinage.db"), *_check_leftovers(data_dir), *_check_processes(data_dir)]
    database = Database(Settings(data_dir=data_dir).resolved_database_url)
    try:
        with database.reading() as session:
            folders = {path.name for path in (data_dir / "jobs").iterdir()}
            if folders != Jobs(session).ids():
                wrong.append(f"rows and folders differ: {folders ^ Jobs(session).ids()}")
            for job_id in sorted(folders & Jobs(session).ids()):
                row = Jobs(session).find(job_id)
                stored = [json.loads(one.body) for one in Events(session).after(job_id, 0, limit=1_000_000)]
                assert row is not None
                wrong += check_events(JobDir(data_dir / "jobs" / job_id), stored, JobStatus(row.status))
    finally:
        database.close()
    return wrong


def check_events(job_dir: JobDir, stored: list[dict[str, object]], status: JobStatus) -> list[str]:
    """Return what is wrong with one job: gaps, illegal moves, two truths, damaged newest checkpoint."""
    wrong, name = [], job_dir.path.name
    if [one["seq"] for one in stored] != list(range(1, len(stored) + 1)):
        wrong.append(f"{name}: events have gaps or doubles")
    written = [event.model_dump(mode="json") for event in job_dir.read_events()][: len(stored)]
    replaced = [one for one, other in zip(stored, written, strict=True) if one != other and one.get("key") != "move_passed_over"]
    if replaced:
        wrong.append(f"{name}: database and events.jsonl differ: {replaced[:2]}")
    now = JobStatus.QUEUED
    for one in stored[1:]:
        event = job_event.validate_python(one)
        moved = event.status if isinstance(event, StatusChanged) else JobStatus.FAILED if event.kind == "job_failed" else now
        if moved is not now and moved not in NEXT[now]:
            wrong.append(f"{name}: {now} cannot become {moved}")
        now = moved
    if now is not status:
        wrong.append(f"{name}: the row says {status}, the events {now}")
    if status is JobStatus.SUCCEEDED:  # what a fault had damaged was written anew
        wrong += [f"{name}: {path.name} is damaged" for path in list_checkpoints(job_dir.checkpoints) if not is_whole(path)]
    return wrong


Losses = dict[tuple[str, int], set[float]]
"""Every loss that was logged, by kind of event and step: more than one where two attempts disagree."""


def read_losses(job_dir: JobDir) -> Losses:
    """Return the losses of one job."""
    found: Losses = {}
    for event in job_dir.read_events():
        if isinstance(event, StepLogged | EvalLogged):
            found.setdefault((event.kind, event.step), set()).add(event.loss)
    return found


def compare_losses(expected: Losses, jobs: list[JobDir]) -> list[str]:
    """Return where jobs, each of which went on from the one before, learned otherwise than an undisturbed one; bit for bit."""
    merged: Losses = {}
    for job_dir in jobs:
        for place, values in read_losses(job_dir).items():
            merged.setdefault(place, set()).update(values)
    differing = sorted(place for place in {*merged, *expected} if merged.get(place) != expected.get(place))
    return [f"losses differ from those of the undisturbed run at {differing[:5]}"] if differing else []


def _check_database(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    try:
        (answer,) = connection.execute("PRAGMA integrity_check").fetchone()
    finally:
        connection.close()
    return [] if answer == "ok" else [f"integrity_check: {answer}"]


def _check_leftovers(data_dir: Path) -> list[str]:
    left = [*(data_dir / "tmp").iterdir(), *(data_dir / "jobs").glob(".new-*"), *(data_dir / "jobs").rglob(".*.tmp")]
    return [f"left over: {path.relative_to(data_dir)}" for path in left]


def _check_processes(data_dir: Path) -> list[str]:
    """A trainer of this folder that still runs although no job is active."""
    found = [f"{path.name} is still trained" for path in (data_dir / "jobs").iterdir() if JobDir(path).is_trained()]
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        if "app.training" in line and str(data_dir) in line and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(f"still runs: {process.pid} {line}")
    return found
