"""Log-probabilities under the model as it was before the first step: computed once, kept in the job's folder.

The adapter adds nothing before its first step, so that model is the base with the adapter off, and no second one is ever
held. (Continued from another job, it is the model which that job left: the policy that the preferences are to change.)
"""

import os
from array import array
from collections.abc import Sequence
from pathlib import Path

from app.storage.job_dir import fsync_folder
from app.training.batching import Row
from app.training.gradient import Computer

ROWS_TOGETHER = 256


def find_reference(compute: Computer, rows: Sequence[Row], file: Path) -> "array[float]":
    """Return the summed log-probability of each row's trained tokens, in nats; from `file` where an attempt left it there.

    Call it while the adapter is as it was at the start. Raises OSError (disk full).
    """
    known = array("d")
    if file.is_file() and file.stat().st_size == len(rows) * known.itemsize:
        known.frombytes(file.read_bytes())
        return known
    for start in range(0, len(rows), ROWS_TOGETHER):
        block = [rows[place] for place in range(start, min(start + ROWS_TOGETHER, len(rows)))]
        known.extend(-loss for loss in compute.row_losses(block))
    aside = file.with_name(f".{file.name}.tmp")
    with aside.open("wb") as out:
        out.write(known.tobytes())
        out.flush()
        os.fsync(out.fileno())
    aside.rename(file)
    fsync_folder(file.parent)
    return known
