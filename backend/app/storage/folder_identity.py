"""`.folder-id`: what names a data folder, so that servers that share a database know whose jobs they can reach.

Servers that see the same folder see the same name: any of them may run its jobs. A job in another folder is left alone.
"""

import os
import uuid
from pathlib import Path

from app.storage.job_dir import fsync_folder


def read_folder_id(data_dir: Path) -> str:
    """Return the name of a data folder; the first call gives it one. Of two processes that do so at once, one wins."""
    path = data_dir / ".folder-id"
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        name = uuid.uuid4().hex
        aside = path.with_name(f".folder-id.{name}.tmp")
        with aside.open("w", encoding="ascii") as file:
            file.write(name)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(aside, path)
        except FileExistsError:
            pass
        finally:
            aside.unlink()
        fsync_folder(data_dir)
        return path.read_text(encoding="ascii").strip()
