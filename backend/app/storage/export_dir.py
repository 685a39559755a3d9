"""The exports of one job.

jobs/<id>/exports/
    <format>.json       ExportState
    <format>/           the files, certificate.json among them; there only when the certificate passed
    .<format>.tmp/      the same while it is made
    .<format>.lock      held by the process that makes it
    rehearsal/          the same for tries with an untrained adapter
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from app.contracts.export import EXPORT_FORMATS, ExportFormat, ExportState
from app.storage.job_dir import write_atomically

START_SECONDS = 30.0
"""A process that was started may take so long until it holds its export."""


class ExportBusy(Exception):
    """Another process makes this export."""


class ExportDir:
    """Paths and files of the exports of one job."""

    def __init__(self, job_path: Path, *, rehearsal: bool = False) -> None:
        self.job_path = job_path
        self.path = job_path / "exports" / "rehearsal" if rehearsal else job_path / "exports"

    def folder(self, export_format: ExportFormat) -> Path:
        """Return where the finished files lie."""
        return self.path / export_format

    def aside(self, export_format: ExportFormat) -> Path:
        """Return where they are made."""
        return self.path / f".{export_format}.tmp"

    def find_state(self, export_format: ExportFormat) -> ExportState | None:
        """Return how far an export is; None when nobody asked for it. A process that died leaves `running` behind."""
        try:
            return ExportState.model_validate_json((self.path / f"{export_format}.json").read_bytes())
        except FileNotFoundError:
            return None

    def states(self) -> list[ExportState]:
        """Return every export that was asked for, in the order of the formats."""
        return [state for name in EXPORT_FORMATS if (state := self.find_state(name)) is not None]

    def write_state(self, state: ExportState) -> None:
        """Replace what is known about an export."""
        self._make_folder()
        write_atomically(self.path / f"{state.format}.json", state.model_dump_json(indent=2))

    def is_made(self, export_format: ExportFormat) -> bool:
        """Return whether a living process makes this export now."""
        try:
            with self.making(export_format):
                return False
        except ExportBusy:
            return True

    def is_under_way(self, state: ExportState | None) -> bool:
        """Return whether an export is made, or a process for it was started just now."""
        if state is None or state.status not in ("queued", "running"):
            return False
        asked = datetime.fromisoformat(state.created_at)
        starting = state.status == "queued" and (datetime.now(UTC) - asked).total_seconds() < START_SECONDS
        return starting or self.is_made(state.format)

    def find_under_way(self) -> ExportFormat | None:
        """Return the first export that is under way, None where nothing is."""
        return next((state.format for state in self.states() if self.is_under_way(state)), None)

    @contextmanager
    def making(self, export_format: ExportFormat) -> Iterator[None]:
        """Hold an export for this process; the system lets go of it when the process dies. Raise ExportBusy."""
        self._make_folder()
        descriptor = os.open(self.path / f".{export_format}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ExportBusy(export_format) from None
            yield
        finally:
            os.close(descriptor)

    def delete(self, export_format: ExportFormat) -> None:
        """Delete an export and what is known about it. Raise ExportBusy while it is made."""
        with self.making(export_format):
            (self.path / f"{export_format}.json").unlink(missing_ok=True)
            shutil.rmtree(self.folder(export_format), ignore_errors=True)
            shutil.rmtree(self.aside(export_format), ignore_errors=True)

    def _make_folder(self) -> None:
        """Raise FileNotFoundError where the job was deleted: its folder must not come back."""
        for folder in (self.job_path / "exports", self.path):
            folder.mkdir(mode=0o700, exist_ok=True)
