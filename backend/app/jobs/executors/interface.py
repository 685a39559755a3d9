"""What the supervisor asks of a place where trainers run."""

from dataclasses import dataclass
from typing import Protocol

from app.storage.job_dir import JobDir


@dataclass(frozen=True)
class Running:
    """The trainer lives."""


@dataclass(frozen=True)
class Gone:
    """The trainer is no more."""

    exit_code: int | None
    """Negative for a signal; None when it was started by a server that is gone too, so that nobody could ask."""
    same_boot: bool
    """False when the machine was restarted since."""
    started: bool
    """False when there is no sign that it ever began."""


class Executor(Protocol):
    """Starts, finds and stops the trainer of a job. A job has at most one trainer."""

    def submit(self, job_dir: JobDir, micro_batch_size: int | None) -> None:
        """Start the trainer; raise OSError when the process cannot be made."""

    def reattach(self, job_dir: JobDir) -> bool:
        """Find a trainer that an earlier server started; return whether it lives."""

    def poll(self, job_dir: JobDir) -> Running | Gone:
        """Say whether the trainer lives."""

    def stop(self, job_dir: JobDir, *, hard: bool) -> None:
        """Ask the trainer to end (SIGTERM), or end it (SIGKILL); nothing happens when it is gone."""

    def dump_stacks(self, job_dir: JobDir) -> None:
        """Make the trainer write what its threads are doing into its log; nothing happens when it is gone."""

    def forget(self, job_dir: JobDir) -> None:
        """Drop what is kept about a trainer that has ended."""

    def logs(self, job_dir: JobDir, max_bytes: int) -> tuple[str, bool]:
        """Return the end of the trainer's output and whether something before it was left out."""
