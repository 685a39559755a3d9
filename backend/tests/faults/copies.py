"""Copies of a data folder that is in use, and what a server makes of them."""

import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from app.core.settings import Settings
from app.services.index_service import rebuild_index
from app.storage.job_dir import JobDir
from tests.faults.oracle import check_folder, compare_losses

if TYPE_CHECKING:
    from tests.faults.faulty_run import FaultyRun

LEFT_OUT = ("run", "ballast")
"""Sockets cannot be copied."""


def copy_frozen(run: "FaultyRun", job_id: str, target: Path) -> None:
    """Copy with server and trainer stopped at whatever they were doing, as a machine that loses its power is found."""
    run.server.send(signal.SIGSTOP)
    run.signal_trainer(job_id, signal.SIGSTOP)
    try:
        shutil.copytree(run.server.data_dir, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
    finally:
        run.signal_trainer(job_id, signal.SIGCONT)
        run.server.send(signal.SIGCONT)


def copy_torn(source: Path, target: Path, damage: Literal["missing", "cut", "changed"]) -> None:
    """Copy file by file while all goes on; then the database is lost, cut or left as the copy tore it. Rebuild it."""
    _copy_while_it_changes(source, target)
    database = target / "affinage.db"
    if damage == "missing":
        for file in target.glob("affinage.db*"):
            file.unlink()
    elif damage == "cut":
        with database.open("r+b") as file:
            file.truncate(database.stat().st_size // 2)
    rebuild_index(Settings(data_dir=target))


def _copy_while_it_changes(source: Path, target: Path) -> None:
    """Copy a tree; what vanishes meanwhile is not copied."""
    target.mkdir()
    for entry in sorted(source.iterdir()):
        try:
            if entry.name in LEFT_OUT:
                continue
            if entry.is_dir():
                _copy_while_it_changes(entry, target / entry.name)
            else:
                shutil.copy2(entry, target / entry.name)
        except FileNotFoundError:
            continue


def boot_copy(run: "FaultyRun", target: Path, jobs: list[str]) -> list[str]:
    """Start a server on the copy and let the newest job end there; return what is wrong then."""
    newest = [job_id for job_id in jobs if (target / "jobs" / job_id / "job.json").exists()]
    server = run.make_server(target)
    original, run.server = run.server, server
    try:
        server.start()
        if not newest:
            return ["the copy holds no job"]
        end = run.finish(newest[-1])
        run.wait(run.is_idle, "a trainer of the copy stays")
        wrong = [] if end == "succeeded" else [f"{newest[-1]} {end}: {server.client.get(f'/api/jobs/{newest[-1]}').text[:300]}"]
        wrong += check_folder(target)
        return wrong + compare_losses(run.expected, [JobDir(target / "jobs" / job_id) for job_id in newest])
    finally:
        run.server = original
        server.close()
