"""Show on a terminal how far the reading of a large file is. On stderr, so that stdout holds the answer alone."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from app.cli.terminal import Terminal

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from app.datasets.rows import Stage, Watch

SHOWN_AFTER_SECONDS = 0.5
"""A file that is read sooner needs no bar."""
REDRAWN_AFTER_SECONDS = 0.1


@contextmanager
def show_progress(terminal: Terminal) -> Iterator["Watch"]:
    """Yield what an import reports to: a bar where stderr is a terminal, else nothing. Ctrl-C ends in a sentence, and goes on."""
    bar = _Bar(terminal)
    try:
        yield bar.move
    except KeyboardInterrupt:
        bar.close()
        terminal.errors.print(terminal.say("import_broken_off"))
        raise
    finally:
        bar.close()


class _Bar:
    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._wanted = terminal.errors.is_terminal
        self._due = time.monotonic() + SHOWN_AFTER_SECONDS
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._stage: Stage | None = None

    def move(self, stage: "Stage", done_bytes: int, total_bytes: int) -> None:
        """Say how far a stage is."""
        now = time.monotonic()
        if not self._wanted or now < self._due:
            return
        self._due = now + REDRAWN_AFTER_SECONDS
        if self._progress is None:
            self._progress = _make_bar(self._terminal)
            self._progress.start()
        if self._task is None or stage != self._stage:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._stage = stage
            self._task = self._progress.add_task(self._terminal.say(f"stage_{stage}"), total=total_bytes)
        self._progress.update(self._task, completed=done_bytes)

    def close(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _make_bar(terminal: Terminal) -> "Progress":
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=terminal.errors, transient=True)
