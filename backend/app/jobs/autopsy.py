"""Why a trainer went without a word, and what follows from it."""

import signal
from collections.abc import Callable

from app.contracts.events import Event, JobFailed, Noted, StatusChanged
from app.contracts.status import JobStatus
from app.jobs.executors.interface import Gone
from app.jobs.oom import oom_kills
from app.jobs.retries import MAX_RETRIES, retry_key
from app.storage.tables import JobAttemptRow

PAUSED_EXIT_CODE, DISK_FULL_EXIT_CODE = 5, 6
"""The trainer stopped and left the word to the supervisor; see app/training/__main__.py."""


def conclude(
    status: JobStatus,
    gone: Gone,
    attempt: JobAttemptRow | None,
    read_evidence: Callable[[], str],
    *,
    retries: int = MAX_RETRIES,
    stalled: bool = False,
) -> list[Event]:
    """Return the events that end an attempt whose trainer is gone without a terminal event.

    `retries`: how often the job was tried again since it last got on; `stalled`: the watchdog had given the trainer up.
    Marks an attempt that the kernel ended for memory with the outcome `oom_host`, so that the next one takes fewer rows.
    """
    ended: list[Event]
    if status is JobStatus.CANCELLING:
        ended = [StatusChanged(status=JobStatus.CANCELLED)]
    elif status is JobStatus.PAUSING and (gone.exit_code is None or gone.exit_code < 0 or gone.exit_code == PAUSED_EXIT_CODE):
        ended = [StatusChanged(status=JobStatus.PAUSED)]  # killed or not: it goes on from its last checkpoint when resumed
    elif gone.exit_code == PAUSED_EXIT_CODE:  # SIGTERM from elsewhere: it goes on from there
        ended = [StatusChanged(status=JobStatus.QUEUED)]
    elif gone.exit_code == DISK_FULL_EXIT_CODE:
        moves = [JobStatus.PAUSED] if status is JobStatus.PAUSING else [JobStatus.PAUSING, JobStatus.PAUSED]
        ended = [Noted(level="warning", key="disk_full.paused"), *(StatusChanged(status=move) for move in moves)]
    elif not gone.started:
        ended = [StatusChanged(status=JobStatus.QUEUED)]
    elif attempt is not None and gone.same_boot and not stalled and was_killed_for_memory(gone, attempt.oom_kills_before):
        attempt.outcome = "oom_host"
        ended = _out_of_memory(attempt.micro_batch_size, read_evidence)
    elif gone.exit_code is not None and gone.exit_code >= 0:
        params = {"exit_code": gone.exit_code}
        ended = [JobFailed(code="worker_killed", key="worker_killed.exit", params=params, evidence=read_evidence())]
    else:
        code = "stalled" if stalled else "worker_killed"
        if attempt is not None:
            attempt.outcome = code
        if retries < MAX_RETRIES:
            params = {"retry": retries + 1, "limit": MAX_RETRIES}
            ended = [Noted(level="warning", key=retry_key(code), params=params), StatusChanged(status=JobStatus.QUEUED)]
        else:
            key = code if gone.same_boot else "worker_killed.restart"
            ended = [JobFailed(code=code, key=key, evidence=read_evidence())]
    return ended


def was_killed_for_memory(gone: Gone, oom_kills_before: int | None) -> bool:
    """Whether the process died by SIGKILL (or unseen) and the kernel has killed for memory since it began."""
    if gone.exit_code not in (None, -signal.SIGKILL) or oom_kills_before is None:
        return False
    now = oom_kills()
    return now is not None and now > oom_kills_before


def _out_of_memory(micro_batch_size: int, read_evidence: Callable[[], str]) -> list[Event]:
    if micro_batch_size == 1:
        return [JobFailed(code="oom_host", key="oom_host", evidence=read_evidence())]
    note = Noted(level="warning", key="oom_host.retry", params={"micro_batch_size": micro_batch_size // 2})
    return [note, StatusChanged(status=JobStatus.QUEUED)]
