"""Exports that were asked for with a job: tried before the training with an untrained adapter, made after it.

An export that cannot work must not be found out after hours of training. The work is done by processes of their own
(`python -m app.export`); of a try only the certificate is kept.
"""

import subprocess
import sys
import time

from app.contracts.events import Noted, PhaseStarted
from app.contracts.export import ExportFormat, ExportState
from app.contracts.job import TrainingJob
from app.core.errors import AffinageError, ExportFailed
from app.storage.export_dir import ExportDir
from app.storage.job_dir import JobDir, utc_now
from app.training.loading import fetch_weights
from app.training.stopping import StopWatch

POLL_SECONDS = 0.2
_END_SECONDS = 5.0


def rehearse(job_dir: JobDir, stop: StopWatch) -> None:
    """Try every export of the job that was not tried yet. Raise the failure of the first that cannot work, Stopped when asked.

    Fetches the model's weights first: the merge is tried on them.
    """
    job = job_dir.read_job()
    tries = ExportDir(job_dir.path, rehearsal=True)
    waiting = [name for name in job.exports if not _has_passed(tries, name)]
    if not waiting:
        return
    fetch_weights(job.model, job_dir, stop.check)
    job_dir.append(PhaseStarted(phase="rehearsing"))
    for export_format in waiting:
        started = time.monotonic()
        _run(job_dir, export_format, stop)
        state = tries.find_state(export_format)
        if state is None or state.status != "succeeded" or state.certificate is None:
            raise _failure(state)
        params = {
            "format": export_format,
            "seconds": round(time.monotonic() - started),
            "top1": f"{100 * min(found.top1 for found in state.certificate.agreements):.1f}",
        }
        job_dir.append(Noted(level="info", key="export_note.rehearsed", params=params))


def announce_exports(job_dir: JobDir, job: TrainingJob) -> None:
    """Write down which exports follow, before the job has succeeded: one that has can be deleted, unless it is exported."""
    exports = ExportDir(job_dir.path)
    for export_format in job.exports:
        tried = ExportDir(job_dir.path, rehearsal=True).find_state(export_format)
        licence = "" if tried is None else tried.licence
        exports.write_state(ExportState(format=export_format, status="queued", created_at=utc_now(), licence=licence))


def begin_exports(job_dir: JobDir, job: TrainingJob) -> None:
    """Start the exports of a finished job; they go on without this process, one after the other."""
    for export_format in job.exports:
        with job_dir.log_file.open("ab") as output:
            subprocess.Popen(
                _command(job_dir, export_format),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def _has_passed(tries: ExportDir, export_format: ExportFormat) -> bool:
    state = tries.find_state(export_format)
    return state is not None and state.status == "succeeded"


def _run(job_dir: JobDir, export_format: ExportFormat, stop: StopWatch) -> None:
    """Wait for the process; end it when someone asks the job to stop."""
    with subprocess.Popen([*_command(job_dir, export_format), "--rehearsal"], stdin=subprocess.DEVNULL) as process:
        try:
            while process.poll() is None:
                stop.check()
                time.sleep(POLL_SECONDS)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(_END_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()


def _command(job_dir: JobDir, export_format: ExportFormat) -> list[str]:
    return [sys.executable, "-m", "app.export", str(job_dir.path), export_format]


def _failure(state: ExportState | None) -> AffinageError:
    """Return what a try failed by, as it was raised in its process."""
    if state is None or state.error_key is None:
        return ExportFailed("interrupted")
    code, _, variant = state.error_key.partition(".")
    kind = next((kind for kind in AffinageError.__subclasses__() if kind.code == code), ExportFailed)
    return kind(variant, **state.error_params)
