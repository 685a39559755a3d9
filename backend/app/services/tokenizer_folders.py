"""Where a model's tokenizer lies on this machine. It may be here before the weights are."""

import subprocess
import sys
import threading
from pathlib import Path

from app.contracts.job import ModelSource
from app.core.errors import Forbidden, ModelUnavailable
from app.services.studio import Studio

UNPACKING_SECONDS = 120.0
"""For the embedded model's tokenizer; it takes some seconds."""
_UNPACKING = threading.Lock()


def find_source(studio: Studio, model_name: str) -> ModelSource | None:
    """Return the copy of a model on this machine, or None; a folder that cannot be used counts as none."""
    try:
        return studio.models.find(model_name)
    except (Forbidden, ModelUnavailable):
        return None


def find_tokenizer_folder(studio: Studio, model_name: str) -> Path | None:
    """Return the folder with a model's tokenizer, or None; unpacks and fetches nothing."""
    source = find_source(studio, model_name)
    if source is None:
        return None
    if source.ready:
        return Path(source.path)
    unpacked = studio.models.embedded_tokenizer_folder
    return unpacked if source.kind == "embedded" and unpacked.is_dir() else None


def get_tokenizer_folder(studio: Studio, model_name: str) -> Path:
    """Return the folder with a model's tokenizer; that of the embedded model is unpacked where it was not yet.

    Raise ModelUnavailable while it is not on this machine, Forbidden for a folder that may not be used.
    """
    source = studio.models.find(model_name)
    if source is not None and source.kind == "embedded" and not source.ready:
        _unpack(studio.models.embedded_tokenizer_folder)
    found = find_tokenizer_folder(studio, model_name)
    if found is None:
        raise ModelUnavailable("not_here", model_id=model_name)
    return found


def _unpack(folder: Path) -> None:
    """Write the embedded model's tokenizer in a process of its own: reading the package needs libraries of the trainer."""
    with _UNPACKING:
        if folder.is_dir():
            return
        command = [sys.executable, "-m", "app.training.embedded", "--tokenizer", str(folder)]
        try:
            subprocess.run(command, capture_output=True, timeout=UNPACKING_SECONDS, check=True)
        except (subprocess.SubprocessError, OSError) as error:
            written = getattr(error, "stderr", None) or b""
            lines = written.decode(errors="replace").strip().splitlines() or [str(error)]
            raise ModelUnavailable("tokenizer_broken", folder=folder.name, reason=lines[-1][:200]) from error
