"""Log-probabilities under the model as it was before the first step: computed once, kept in the job's folder.

The adapter adds nothing before its first step, so that model is the base with the adapter off, and no second one is ever
held. (Continued from another job, it is the model which that job left: the policy that the preferences are to change.)
"""

import os
from array import array
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from app.contracts.events import Noted
from app.contracts.job import TrainingJob
from app.core.errors import Diverged
from app.storage.job_dir import fsync_folder
from app.training.batching import Row
from app.training.gradient import Computer
from app.training.repeating import compute_finite, is_finite, name_rows

ROWS_TOGETHER = 256


def find_reference(compute: Computer, job: TrainingJob, rows: Sequence[Row], file: Path) -> "array[float]":
    """Return the summed log-probability of each row's trained tokens, in nats; from `file` where an attempt left it there.

    Call it while the adapter is as it was at the start. Raises OSError (disk full), Diverged for rows without a number.
    """
    known = array("d")
    if file.is_file() and file.stat().st_size == len(rows) * known.itemsize:
        known.frombytes(file.read_bytes())
        return known
    for start in range(0, len(rows), ROWS_TOGETHER):
        block = [rows[place] for place in range(start, min(start + ROWS_TOGETHER, len(rows)))]
        losses = compute_finite(compute, job, partial(_read, rows=block), tuple, partial(_note_not_finite, block))
        if not is_finite(*losses):
            raise Diverged("reference", rows=name_rows(block))
        known.extend(-loss for loss in losses)
    aside = file.with_name(f".{file.name}.tmp")
    with aside.open("wb") as out:
        out.write(known.tobytes())
        out.flush()
        os.fsync(out.fileno())
    aside.rename(file)
    fsync_folder(file.parent)
    return known


def _read(compute: Computer, rows: Sequence[Row]) -> list[float]:
    return compute.row_losses(rows)


def _note_not_finite(rows: Sequence[Row]) -> Noted:
    return Noted(level="warning", key="not_finite.reference", params={"rows": name_rows(rows)})
