"""Process entry: `python -m app.training <job folder> [--micro-batch ROWS]` runs one job.

Exit codes: 0 succeeded, 3 failed (the event says why), 4 cancelled, 5 paused at a checkpoint, 6 paused because the disk
is full (both without an event: the supervisor owns that state, and a full disk may take no event). Any other end means
that the process was killed.
"""

import argparse
import errno
import logging
import os
import re
import sys
import traceback
from pathlib import Path

from app.contracts.events import JobFailed, StatusChanged
from app.contracts.status import JobStatus
from app.core.errors import AffinageError, DiskFull, OutOfDeviceMemory, OutOfHostMemory
from app.core.messages import catalogue
from app.storage.job_dir import JobDir

SUCCEEDED, FAILED, CANCELLED, PAUSED, DISK_FULL = 0, 3, 4, 5, 6
EVIDENCE_LINES = 12

log = logging.getLogger("app.training")


def main(argv: list[str] | None = None) -> int:
    """Run the job; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m app.training", description="Run one fine-tuning job.")
    parser.add_argument("job_folder", type=Path)
    parser.add_argument("--micro-batch", type=int, default=None, help="rows per micro-batch at most")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Read by GNU OpenMP when torch loads it. Its threads wait for each other by spinning: on a machine that also does
    # something else they burn the time that the thread they wait for needs (12 against 72 products a second, measured
    # on two cores with a load of 10). A short spin, then sleep.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

    job_dir = JobDir(arguments.job_folder.absolute())
    job_dir.append(StatusChanged(status=JobStatus.RUNNING))
    try:
        # Imported here: torch takes seconds, the page shows "running" meanwhile, and a broken installation is reported.
        from app.training.stopping import Stopped, StopWatch

        stop = StopWatch(job_dir)
        stop.listen()
        stop.beat()
        from transformers.utils import logging as transformers_logging

        from app.training.comparing.after import compare_after
        from app.training.engine import train
        from app.training.rehearsal import announce_exports, begin_exports, rehearse

        transformers_logging.disable_progress_bar()
        catalogue("en")  # the sentences of errors: an upgrade may take the file away while this runs
        try:
            report = job_dir.find_report()
            if report is None:  # else an earlier attempt trained, and was ended while it compared
                rehearse(job_dir, stop)
                report = train(job_dir, stop, arguments.micro_batch)
            compare_after(job_dir, report, stop)
            job = job_dir.read_job()
            announce_exports(job_dir, job)
        except Stopped as stopped:
            if stopped.reason == "paused":
                return PAUSED
            job_dir.append(StatusChanged(status=JobStatus.CANCELLED))
            return CANCELLED
    except Exception as error:
        log.exception("the job failed")
        failure = describe_failure(error)
        if failure.code == DiskFull.code:
            return DISK_FULL
        job_dir.append(failure)
        return FAILED
    job_dir.append(StatusChanged(status=JobStatus.SUCCEEDED))
    begin_exports(job_dir, job)
    return SUCCEEDED


def describe_failure(error: Exception) -> JobFailed:
    """Return the event for `error`: its code, and evidence without paths of the installation."""
    known = _expected(error)
    evidence = strip_folders("".join(traceback.format_exception(error)).strip())
    lines = "\n".join(evidence.splitlines()[-EVIDENCE_LINES:])
    if known is None:
        return JobFailed(code="internal", key="internal", params={"log": "trainer.log"}, evidence=lines)
    return JobFailed(code=known.code, key=known.key, params=known.params, evidence="" if known is error else lines)


def strip_folders(text: str) -> str:
    """Return `text` with absolute paths cut down to file names."""
    return re.sub(r"(?<![\w.:/])/(?:[^\s/\"':]+/)+", "", text)


def _expected(error: Exception) -> AffinageError | None:
    """Return the failure with a code that `error` stands for, if any."""
    if isinstance(error, AffinageError):
        return error
    no_space = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if no_space or "No space left on device" in str(error):
        return DiskFull("writing")
    if isinstance(error, ImportError):
        return None
    from app.training.memory import is_out_of_memory

    if is_out_of_memory(error):
        # Not caught by the shrinking micro-batch: the model itself did not fit.
        return OutOfDeviceMemory("loading") if "CUDA" in str(error) else OutOfHostMemory("loading")
    return None


if __name__ == "__main__":
    sys.exit(main())
