"""What follows from each cause of a lost attempt: is the job tried again by itself, and how often?

worker_killed   again, from the last checkpoint (ended by a signal, or with the machine)
stalled         again, from the last checkpoint
oom_host        again with half the rows, down to one (autopsy.py); then failed
disk_full       paused: a person makes room, then resumes
hub_unreachable asked again by the trainer itself for some minutes (training/engine.py); then failed
everything else failed: trying again would only fail again
"""

from sqlalchemy.orm import Session

from app.contracts.events import Noted, job_event
from app.storage.repositories import Events

RETRIED = frozenset({"worker_killed", "stalled"})
MAX_RETRIES = 3
"""In a row without a checkpoint between them: a job that gets on may be lost as often as it likes."""
RESUMED_BY_HAND = "resumed_by_hand"


def retry_key(code: str) -> str:
    """Return the key of the note that says why a job is tried again."""
    return f"{code}.retry"


def count_retries(session: Session, job_id: str) -> int:
    """Return how often a job was tried again since it last got on, or since a person last resumed it.

    Read from its events, so that a database rebuilt from the folders counts the same.
    """
    events = Events(session)
    saved = [row.seq for row in events.of_kind(job_id, "checkpoint_saved")]
    since = max(saved, default=0)
    notes = (job_event.validate_json(row.body) for row in events.of_kind(job_id, "noted") if row.seq > since)
    keys = {retry_key(code) for code in RETRIED}
    count = 0
    for note in notes:
        if isinstance(note, Noted):
            count = 0 if note.key == RESUMED_BY_HAND else count + (note.key in keys)
    return count
