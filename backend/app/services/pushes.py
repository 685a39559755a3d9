"""Exports on their way to a hub, in the background of this process; what has arrived is written beside the export."""

import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.contracts.export import ExportFormat
from app.core.errors import AffinageError
from app.services.export_service import Exported
from app.storage.export_dir import ExportDir

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Push:
    """How a push stands."""

    repo_id: str
    state: Literal["running", "done", "failed"]
    problem: AffinageError | None = None


_lock = threading.Lock()
_latest: dict[tuple[Path, ExportFormat], Push] = {}


def find_push(job_path: Path, export_format: ExportFormat) -> Push | None:
    """Return what is known about the latest push of an export by this process."""
    with _lock:
        return _latest.get((job_path, export_format))


def find_running(job_path: Path, export_format: ExportFormat | None = None) -> Push | None:
    """Return a push of a job (of one export) that this process has not ended, or None."""
    with _lock:
        running = (key for key, push in _latest.items() if push.state == "running" and key[0] == job_path)
        return next((_latest[key] for key in running if export_format in (None, key[1])), None)


def start_push(job_path: Path, exported: Exported, repo_id: str, *, private: bool) -> Push:
    """Send a finished export in the background; one that is on its way goes on."""
    key = (job_path, exported.state.format)
    with _lock:
        latest = _latest.get(key)
        if latest is not None and latest.state == "running":
            return latest
        begun = _latest[key] = Push(repo_id, "running")
    threading.Thread(target=_work, args=(job_path, exported, repo_id, private), name=f"push {repo_id}", daemon=True).start()
    return begun


def push_now(job_path: Path, exported: Exported, repo_id: str, *, private: bool) -> str:
    """Send a finished export and return its address. Raise Invalid, HubUnreachable."""
    from app.storage.hub_push import push_files  # huggingface_hub takes half a second to import

    address = push_files(repo_id, {name: exported.folder / name for name in exported.files}, private=private)
    exports = ExportDir(job_path)
    state = exports.find_state(exported.state.format)
    if state is not None:
        exports.write_state(state.model_copy(update={"pushed_to": address}))
    return address


def _work(job_path: Path, exported: Exported, repo_id: str, private: bool) -> None:
    key = (job_path, exported.state.format)
    try:
        push_now(job_path, exported, repo_id, private=private)
        ended = Push(repo_id, "done")
    except AffinageError as problem:
        ended = Push(repo_id, "failed", problem)
    except Exception:  # the entry of a thread: without this the push would look as if it ran for ever
        log.exception("The push to %s failed.", repo_id)
        ended = Push(repo_id, "failed", AffinageError(log="logs/server.log"))
    with _lock:
        _latest[key] = ended
