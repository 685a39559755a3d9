"""Trainers as processes of this machine, each in its own session, so that they outlive the server."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import psutil

from app.jobs.executors.environment import trainer_environment
from app.jobs.executors.interface import Gone, Running
from app.storage.job_dir import JobDir, ProcessIdentity, write_atomically

LOOKING_SECONDS = 1.0
"""Another server that looks whether a trainer lives holds the lock for an instant."""

TrainerCommand = Callable[[Path, int | None], list[str]]

SAME_START_SECONDS = 2.0
"""A process is the recorded one when it started within this time: the kernel's boot time is rounded and may be corrected."""


def trainer_command(folder: Path, micro_batch_size: int | None) -> list[str]:
    """Return the command line that trains the job in `folder`."""
    smaller = ["--micro-batch", str(micro_batch_size)] if micro_batch_size else []
    return [sys.executable, "-m", "app.training", str(folder), *smaller]


def boot_id() -> str:
    """Return what names this boot of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(int(psutil.boot_time()))


def identify(pid: int) -> ProcessIdentity:
    """Return what names a process for good. Raise psutil.NoSuchProcess."""
    return ProcessIdentity(pid=pid, started=psutil.Process(pid).create_time(), boot_id=boot_id())


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether exactly this process runs; a zombie does not."""
    if identity.boot_id != boot_id():
        return False
    try:
        process = psutil.Process(identity.pid)
        same = abs(process.create_time() - identity.started) < SAME_START_SECONDS
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def find_trainer(job_dir: JobDir) -> ProcessIdentity | None:
    """Return the living trainer of a folder as it was recorded; None where there is none, or where it trains another folder."""
    recorded = job_dir.find_process()
    return recorded if recorded is not None and is_alive(recorded) and job_dir.is_trained() else None


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Give a descriptor that holds a lock on a file; raise BlockingIOError while another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + LOOKING_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        yield descriptor
    finally:
        os.close(descriptor)


class Child(Protocol):
    """What is asked of a process that this server has started."""

    @property
    def pid(self) -> int:
        """Its number; it leads a process group of the same number."""

    def poll(self) -> int | None:
        """Return its exit code (negative for a signal), None while it runs."""


class LocalExecutor:
    """Starts `python -m app.training <job folder>`.

    A trainer holds trainer.lock of its folder as long as it lives: that, and not process.json alone, says that a folder is
    being trained. In a copy of a data folder, process.json names the trainer of the original.
    """

    def __init__(self, command: TrainerCommand = trainer_command) -> None:
        self._command = command
        self._children: dict[Path, Child] = {}

    def submit(self, job_dir: JobDir, micro_batch_size: int | None) -> None:
        """Start the trainer in its own session, its output in trainer.log; raise OSError, also when one lives already.

        The trainer inherits an open, locked trainer.lock: the kernel lets it go when the process ends, however it ends.
        """
        with locked(job_dir.lock_file) as lock, job_dir.log_file.open("ab") as output:
            job_dir.process_file.unlink(missing_ok=True)
            child = self.spawn(self._command(job_dir.path, micro_batch_size), lock, output.fileno())
        self._children[job_dir.path] = child
        write_atomically(job_dir.process_file, identify(child.pid).model_dump_json())

    def spawn(self, command: list[str], lock: int, output: int) -> Child:
        """Start a process in its own session that holds the lock and writes to the descriptor `output`; raise OSError."""
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(lock,),
            env=trainer_environment(),
        )

    def reattach(self, job_dir: JobDir) -> bool:
        """Find the trainer by its recorded identity, or by its command line if the server died before recording it."""
        if find_trainer(job_dir) is not None:
            return True
        expected = self._command(job_dir.path, None)
        for process in psutil.process_iter(["cmdline"]):
            arguments = process.info["cmdline"] or []
            if arguments[: len(expected)] == expected:
                try:
                    write_atomically(job_dir.process_file, identify(process.pid).model_dump_json())
                except psutil.NoSuchProcess:
                    continue
                return True
        return job_dir.is_trained()  # by a process of another machine that shares the folder

    def poll(self, job_dir: JobDir) -> Running | Gone:
        """Say whether the trainer lives; its exit code is known only to the server that started it."""
        child = self._children.get(job_dir.path)
        if child is not None:
            exit_code = child.poll()
            return Running() if exit_code is None else Gone(exit_code=exit_code, same_boot=True, started=True)
        if job_dir.is_trained():
            return Running()
        recorded = job_dir.find_process()
        if recorded is None:
            return Gone(exit_code=None, same_boot=True, started=False)
        return Gone(exit_code=None, same_boot=recorded.boot_id == boot_id(), started=True)

    def stop(self, job_dir: JobDir, *, hard: bool) -> None:
        """Send the signal to the whole group: a trainer may have helpers of its own."""
        recorded = find_trainer(job_dir)
        if recorded is None:
            return
        try:
            os.killpg(recorded.pid, signal.SIGKILL if hard else signal.SIGTERM)
        except ProcessLookupError:
            return

    def dump_stacks(self, job_dir: JobDir) -> None:
        """Send SIGUSR1 to the trainer alone: one that does not listen yet would be ended by it, as a stalled one is anyway."""
        recorded = find_trainer(job_dir)
        if recorded is not None:
            with suppress(ProcessLookupError):
                os.kill(recorded.pid, signal.SIGUSR1)

    def forget(self, job_dir: JobDir) -> None:
        """Drop what is kept about a trainer that has ended."""
        self._children.pop(job_dir.path, None)

    def logs(self, job_dir: JobDir, max_bytes: int) -> tuple[str, bool]:
        """Return the end of trainer.log."""
        try:
            with job_dir.log_file.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - max_bytes))
                return file.read().decode("utf-8", "replace"), size > max_bytes
        except FileNotFoundError:
            return "", False
