"""The comparison as the last stage of a job: it never costs the job its result."""

import logging
import time

from app.contracts.events import Noted, PhaseStarted
from app.contracts.report import Report
from app.core.errors import AffinageError
from app.storage.job_dir import JobDir, write_atomically
from app.training.comparing.compare import compare
from app.training.memory import is_out_of_memory, release
from app.training.stopping import Stopped, StopWatch

log = logging.getLogger(__name__)


def compare_after(job_dir: JobDir, report: Report, stop: StopWatch) -> None:
    """Write comparison.json beside the report. What was trained stays the result if this fails or is stopped."""
    job = job_dir.read_job()
    if not job.report_rows or not report.heldout_rows or job_dir.comparison_file.exists():
        return
    job_dir.append(PhaseStarted(phase="comparing"))
    release()  # the model of the training is no longer needed
    started = time.monotonic()
    try:
        found = compare(job_dir, job, report, stop.check)
    except Stopped:
        job_dir.append(Noted(level="info", key="comparison_stopped"))
        return
    except (AffinageError, RuntimeError, ValueError, OSError, MemoryError) as error:
        log.exception("base and tuned could not be compared")
        key = "comparison_failed.memory" if is_out_of_memory(error) else "comparison_failed"
        job_dir.append(Noted(level="warning", key=key, params={"log": "trainer.log"}))
        return
    log.info("compared in %.0f s", time.monotonic() - started)
    if found is not None:
        write_atomically(job_dir.comparison_file, found.model_dump_json(indent=1))
