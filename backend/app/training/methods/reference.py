"""Log-probabilities under the model as it was before the first step: computed once, kept in the job's folder.

The adapter adds nothing before its first step, so that model is the base with the adapter off, and no second one is ever
held. (Continued from another job, it is the model which that job left: the policy that the preferences are to change.)

In 16 bits a row's log-probability depends on the rows beside it: sums of other sizes are rounded in another order. So the
reference is computed in the very micro-batches in which the rows are learned in the first epoch, and judged in each
evaluation: before the first step the ratio of both models is exactly 1.
"""

import os
from array import array
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

from app.contracts.events import Noted
from app.contracts.job import TrainingJob
from app.core.errors import Diverged
from app.planner.run_shape import count_group
from app.storage.job_dir import fsync_folder
from app.training.batching import Row
from app.training.gradient import Computer
from app.training.repeating import compute_finite, is_finite, name_rows


def find_reference(
    compute: Computer, job: TrainingJob, rows: Sequence[Row], parts: Iterable[Sequence[int]], file: Path
) -> "array[float]":
    """Return the summed log-probability of each row's trained tokens, in nats; from `file` where an attempt left it there.

    `parts` are the places of the examples that are computed together. Call it while the adapter is as it was at the start.
    Raises OSError (disk full), Diverged for rows without a number.
    """
    known = array("d", bytes(8 * len(rows)))
    if file.is_file() and file.stat().st_size == len(rows) * known.itemsize:
        return array("d", file.read_bytes())
    group = count_group(job.method)
    for part in parts:
        places = [range(group * example, group * (example + 1)) for example in part]
        groups = [[rows[place] for place in together] for together in places]
        flat = list(chain.from_iterable(groups))
        losses = compute_finite(compute, job, partial(_read, groups=groups), tuple, partial(_note_not_finite, flat))
        if not is_finite(*losses):
            raise Diverged("reference", rows=name_rows(flat))
        for place, loss in zip(chain.from_iterable(places), losses, strict=True):
            known[place] = -loss
    aside = file.with_name(f".{file.name}.tmp")
    with aside.open("wb") as out:
        out.write(known.tobytes())
        out.flush()
        os.fsync(out.fileno())
    aside.rename(file)
    fsync_folder(file.parent)
    return known


def _read(compute: Computer, groups: Sequence[Sequence[Row]]) -> list[float]:
    return compute.grouped_losses(groups)


def _note_not_finite(rows: Sequence[Row]) -> Noted:
    return Noted(level="warning", key="not_finite.reference", params={"rows": name_rows(rows)})
