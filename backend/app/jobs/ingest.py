"""Take the events of a job folder into the database: each one once, in order, status through lifecycle.py."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.contracts.events import (
    DownloadProgressed,
    EvalLogged,
    JobEvent,
    JobFailed,
    Noted,
    PhaseStarted,
    PriorityChanged,
    StatusChanged,
    StepLogged,
    job_event,
)
from app.contracts.status import JobStatus
from app.jobs.lifecycle import IllegalMove, switch_status
from app.storage.job_dir import JobDir
from app.storage.repositories import Events
from app.storage.tables import JobRow

log = logging.getLogger(__name__)

INSERTED_AT_ONCE = 500
"""Events in one statement: a long run whose folder is listed again must not be held in memory."""


def ingest(session: Session, row: JobRow, job_dir: JobDir) -> int:
    """Take in what was appended since the last time and return the number of new events.

    The caller holds the row. Nothing after a terminal event counts: a job that ended stays as it ended. A line that is
    no event, or a status that cannot follow, is logged and passed over, so that one bad line cannot stop a job.
    """
    taken = 0
    events = Events(session)
    waiting: list[dict[str, str | int]] = []
    for line, end in _complete_lines(job_dir.events_file, row.events_offset):
        if JobStatus(row.status).terminal:
            break
        row.events_offset = end
        try:
            event = job_event.validate_json(line)
        except ValidationError:
            log.exception("Job %s: a line of events.jsonl is no event and is passed over.", row.job_id)
            continue
        if event.seq <= row.last_seq:
            continue
        try:
            apply(row, event)
        except IllegalMove as problem:
            log.warning("Job %s: event %d is passed over: %s", row.job_id, event.seq, problem)
            params = {"status": problem.old.value, "new_status": problem.new.value}
            event = Noted(seq=event.seq, at=event.at, level="info", key="move_passed_over", params=params)  # no gap in seq
        waiting.append({"job_id": row.job_id, "seq": event.seq, "kind": event.kind, "body": event.model_dump_json()})
        row.last_seq = event.seq
        taken += 1
        if len(waiting) >= INSERTED_AT_ONCE:
            events.add(waiting)
            waiting.clear()
    session.flush()
    events.add(waiting)
    return taken


def apply(row: JobRow, event: JobEvent) -> None:
    """Bring the columns of a job up to date with one event. Raise IllegalMove for an impossible status."""
    match event:
        case StatusChanged():
            switch_status(row, event.status, event.at)
            if event.status is JobStatus.QUEUED:
                row.phase, row.step, row.eta_seconds = None, 0, None
        case JobFailed():
            switch_status(row, JobStatus.FAILED, event.at)
            row.error_code, row.error_key = event.code, event.key
            row.error_params = json.dumps(event.params)
            row.error_evidence = event.evidence
        case PhaseStarted():
            row.phase = event.phase
        case DownloadProgressed():
            row.download_done_bytes, row.download_total_bytes = event.done_bytes, event.total_bytes
        case StepLogged():
            row.step, row.total_steps, row.epoch = event.step, event.total_steps, event.epoch
            row.loss, row.learning_rate = event.loss, event.learning_rate
            row.tokens, row.tokens_per_second = event.tokens, event.tokens_per_second
            row.peak_bytes, row.eta_seconds = event.peak_bytes, event.eta_seconds
        case EvalLogged():
            row.heldout_loss = event.loss
            if event.step == 0:
                row.heldout_loss_before = event.loss
        case PriorityChanged():
            row.priority = event.priority
        case _:
            pass


def _complete_lines(path: Path, offset: int) -> Iterator[tuple[bytes, int]]:
    """Yield (line, offset of its end) from `offset` on; a line that is still being written waits for its newline."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield line, offset
