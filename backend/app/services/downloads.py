"""Downloads of model weights in the background, one at a time for a model, with a progress that anyone can read."""

import logging
import threading
from dataclasses import dataclass, replace
from typing import Literal

from app.contracts.job import ModelSource
from app.core.errors import AffinageError
from app.storage.model_store import ModelStore

log = logging.getLogger(__name__)

State = Literal["idle", "running", "done", "failed"]


@dataclass(frozen=True)
class Download:
    """How far the weights of a model have come; sizes in bytes, the total 0 until it is known."""

    model_id: str
    state: State
    done_bytes: int = 0
    total_bytes: int = 0
    problem: AffinageError | None = None


class Stopped(Exception):
    """Ends a download because the process ends; what is complete stays and the next one goes on from there."""


class Downloads:
    """The downloads of this process."""

    def __init__(self, models: ModelStore) -> None:
        self._models = models
        self._lock = threading.Lock()
        self._latest: dict[str, Download] = {}
        self._closed = False

    def find(self, model_id: str) -> Download | None:
        """Return what is known about the latest download of a model, or None."""
        with self._lock:
            return self._latest.get(model_id)

    def start(self, source: ModelSource) -> Download:
        """Fetch a model in the background unless that is under way."""
        with self._lock:
            latest = self._latest.get(source.model_id)
            if latest is not None and latest.state == "running":
                return latest
            begun = Download(source.model_id, "running")
            self._latest[source.model_id] = begun
        threading.Thread(target=self._fetch, args=(source,), name=f"download {source.model_id}", daemon=True).start()
        return begun

    def close(self) -> None:
        """Stop every download at its next piece."""
        self._closed = True

    def _fetch(self, source: ModelSource) -> None:
        try:
            self._models.download(source, lambda done, total: self._progress(source.model_id, done, total))
            self._set(source.model_id, state="done")
        except AffinageError as problem:
            self._set(source.model_id, state="failed", problem=problem)
        except Stopped:
            self._set(source.model_id, state="idle")
        except Exception:  # the entry of a thread: without this the download would look as if it ran for ever
            log.exception("The download of %s failed.", source.model_id)
            self._set(source.model_id, state="failed", problem=AffinageError(log="logs/server.log"))

    def _progress(self, model_id: str, done_bytes: int, total_bytes: int) -> None:
        if self._closed:
            raise Stopped
        self._set(model_id, done_bytes=done_bytes, total_bytes=total_bytes)

    def _set(self, model_id: str, **changes: object) -> None:
        with self._lock:
            self._latest[model_id] = replace(self._latest[model_id], **changes)  # type: ignore[arg-type]
