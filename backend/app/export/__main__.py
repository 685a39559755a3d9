"""Process entry: `python -m app.export <job folder> <format> [--rehearsal]` makes one export and checks it.

The result is in the export's folder, how far it is in `<format>.json` beside it. Exit codes: 0 succeeded, 3 failed (the file
says why), 5 another process makes the same export.
"""

import argparse
import errno
import fcntl
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app.contracts.export import EXPORT_FORMATS, Certificate, ExportFormat, ExportPhase, ExportState
from app.contracts.job import ModelSource
from app.core.errors import AffinageError, DiskFull
from app.storage.export_dir import ExportBusy, ExportDir
from app.storage.job_dir import JobDir, utc_now
from app.storage.model_store import ModelStore

SUCCEEDED, FAILED, BUSY = 0, 3, 5
NICENESS = 5

log = logging.getLogger("app.export")


def main(argv: list[str] | None = None) -> int:
    """Make the export; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m app.export", description="Make one export of a job and check it.")
    parser.add_argument("job_folder", type=Path)
    parser.add_argument("format", choices=EXPORT_FORMATS)
    parser.add_argument("--rehearsal", action="store_true", help="with an untrained adapter; keeps the certificate only")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    exports = ExportDir(arguments.job_folder, rehearsal=arguments.rehearsal)
    try:
        with exports.making(arguments.format), _one_after_another(arguments.job_folder.parents[1]):
            return _make(JobDir(arguments.job_folder), exports, arguments.format, rehearsal=arguments.rehearsal)
    except ExportBusy:
        return BUSY


@contextmanager
def _one_after_another(data_dir: Path) -> Iterator[None]:
    """Wait until no other export of this data folder is made: each needs the memory of two models."""
    (data_dir / "run").mkdir(mode=0o700, exist_ok=True)
    with (data_dir / "run" / "exports.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(job_dir: JobDir, exports: ExportDir, export_format: ExportFormat, *, rehearsal: bool) -> int:
    state = exports.find_state(export_format) or ExportState(format=export_format, status="queued", created_at=utc_now())
    state = state.model_copy(update={"status": "running", "error_key": None, "error_params": {}})

    def on_phase(phase: ExportPhase) -> None:
        nonlocal state
        state = state.model_copy(update={"phase": phase})
        exports.write_state(state)

    def finish(**changes: object) -> None:
        exports.write_state(state.model_copy(update={"phase": None, "finished_at": utc_now(), **changes}))

    on_phase("writing")
    try:
        with tempfile.TemporaryDirectory(prefix="untrained-", dir=exports.path) as folder:
            finish(
                status="succeeded",
                certificate=_run(
                    job_dir, export_format, Path(folder), rehearsal=rehearsal, licence=state.licence, on_phase=on_phase
                ),
            )
    except AffinageError as error:
        log.error("%s", error)
        finish(status="failed", error_key=error.key, error_params=error.params, certificate=getattr(error, "certificate", None))
        return FAILED
    except Exception as error:  # the entry of the process: the reason must reach the page
        log.exception("The export failed.")
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        key = DiskFull("export").key if full else "export_failed.crashed"
        finish(status="failed", error_key=key, error_params={} if full else {"reason": " ".join(str(error).split())[:300]})
        return FAILED
    return SUCCEEDED


def _run(
    job_dir: JobDir,
    export_format: ExportFormat,
    scratch: Path,
    *,
    rehearsal: bool,
    licence: str,
    on_phase: Callable[[ExportPhase], None],
) -> Certificate:
    from transformers.utils import logging as transformers_logging

    from app.export.packing import make_export
    from app.export.untrained import write_untrained

    transformers_logging.disable_progress_bar()
    job = job_dir.read_job()
    _bring_back(job.model, job_dir.path.parents[1])
    adapter = job_dir.adapter
    if rehearsal:
        adapter = scratch / "adapter"
        write_untrained(job, adapter)
    return make_export(job_dir, job, export_format, adapter, rehearsal=rehearsal, licence=licence, on_phase=on_phase)


def _bring_back(model: ModelSource, data_dir: Path) -> None:
    """Unpack or fetch weights that were deleted since the training. Raise ModelUnavailable, HubUnreachable, DiskFull."""
    if model.kind == "embedded":
        from app.training.embedded import materialise

        materialise(Path(model.path))
    else:
        ModelStore(data_dir).download(model, lambda _done, _total: None)


if __name__ == "__main__":
    os.nice(NICENESS)
    os.umask(0o077)
    sys.exit(main())
