"""What a job will write, compared with the disk before it is queued."""

import shutil
from pathlib import Path

from app.contracts.job import TrainingJob
from app.core.errors import DiskFull
from app.core.units import MIB, format_bytes
from app.storage.dataset_dir import DatasetDir
from app.storage.job_dir import JobDir

ENCODED_PER_BYTE = 4
"""A token takes 4 bytes (training/row_file.py) and stands for at least one byte of the rows."""
RESERVE_BYTES = 32 * MIB
"""For events, logs and the database. Judged, not measured."""


def count_needed_bytes(job: TrainingJob, rows: DatasetDir | JobDir) -> int:
    """Return the bytes that a job takes at its fullest: checkpoints, the best, one being written, the result, the encoded rows.

    The weights of a model that must be downloaded are not in it: the download compares them itself.
    """
    parts = job.plan.parts
    checkpoint = parts.adapter + parts.optimizer
    files = (file for file in (rows.train_file, rows.heldout_file) if file.exists())
    encoded = ENCODED_PER_BYTE * sum(file.stat().st_size for file in files)
    return (job.checkpoints_kept + 1 + job.keep_best) * checkpoint + parts.adapter + encoded + RESERVE_BYTES


def check_room(folder: Path, job: TrainingJob, rows: DatasetDir | JobDir) -> None:
    """Raise DiskFull when the disk of `folder` has less free than the job will take."""
    needed, free = count_needed_bytes(job, rows), shutil.disk_usage(folder).free
    if free < needed:
        raise DiskFull("start", needed=format_bytes(needed), free=format_bytes(free))
