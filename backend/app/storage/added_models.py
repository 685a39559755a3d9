"""Models that a person added: `models/added/<hash of the id>.json`, one file a model. The configuration is computed anew."""

import hashlib
import logging
from pathlib import Path

from pydantic import ValidationError

from app.contracts.frozen import Frozen
from app.storage.job_dir import fsync_folder, write_atomically

log = logging.getLogger(__name__)


class AddedModel(Frozen):
    """One model of the user's own."""

    model_id: str
    """A hub id or the absolute path of a folder."""
    added_at: str
    """UTC, ISO 8601."""
    commit: str
    """Of the hub at that time; empty for a folder."""
    config: str
    """Its config.json as text: enough to plan without a network and without weights."""


class AddedModels:
    """The files; read at each call, so that command line and server see each other's changes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def list(self) -> list[AddedModel]:
        """Return all models in the order in which they were added."""
        paths = self._folder.glob("*.json") if self._folder.is_dir() else ()
        found = [model for path in paths if (model := _read(path)) is not None]
        return sorted(found, key=lambda model: (model.added_at, model.model_id))

    def find(self, model_id: str) -> AddedModel | None:
        """Return one model, or None."""
        return _read(self._path(model_id))

    def put(self, model: AddedModel) -> None:
        """Add or replace a model, durably."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self._path(model.model_id), model.model_dump_json(indent=2))

    def delete(self, model_id: str) -> bool:
        """Forget a model; return whether there was one."""
        try:
            self._path(model_id).unlink()
        except FileNotFoundError:
            return False
        fsync_folder(self._folder)
        return True

    def _path(self, model_id: str) -> Path:
        return self._folder / f"{hashlib.sha256(model_id.encode()).hexdigest()[:20]}.json"


def _read(path: Path) -> AddedModel | None:
    """Return one model; None for a file that is gone, or that cannot be read, which is logged."""
    try:
        return AddedModel.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        log.warning("%s describes no model and is passed over.", path)
        return None
