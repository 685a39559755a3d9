"""Follow a job on the terminal: one progress bar, or a line now and then where there is no terminal."""

import signal
import time
from typing import TYPE_CHECKING

from app.cli.terminal import Terminal
from app.contracts.events import DownloadProgressed, EvalLogged, JobEvent, Noted, PhaseStarted, StepLogged
from app.core.messages import localise
from app.core.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from rich.progress import Progress

    from app.services.studio import Studio

LINE_SECONDS = 10.0
"""Without a terminal, progress is a line at most this often."""


def watch(studio: "Studio", terminal: Terminal, job_id: str) -> bool:
    """Show a job until it ends; return False when the user leaves it running."""
    from app.services import job_service

    seen = 0
    interrupted = False

    def note(*_: object) -> None:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        while True:
            view = open_view(terminal)
            try:
                with view:
                    for event in job_service.follow(studio, job_id, seen):
                        seen = event.seq
                        view.show(event)
                        # An exception that comes in the middle of a library's own work may be lost there: the wish is not.
                        if interrupted:
                            raise KeyboardInterrupt
                return True
            except KeyboardInterrupt:
                interrupted = False
                if not decide(studio, terminal, job_id):
                    return False
    finally:
        signal.signal(signal.SIGINT, before)


def decide(studio: "Studio", terminal: Terminal, job_id: str) -> bool:
    """Ask after Ctrl-C: cancel, leave or go on. Return whether to go on watching. Nobody to ask means cancel."""
    from app.services import job_service

    answer = "c"
    if terminal.console.is_terminal and not terminal.as_json:
        try:
            answer = terminal.console.input(f"\n{terminal.say('interrupted')} ", markup=False).strip().lower()[:1]
        except (KeyboardInterrupt, EOFError):
            answer = "d"
    if answer == "d":
        terminal.print("\n" + terminal.say("detached", job_id=job_id))
        return False
    if answer in ("c", "a"):  # cancel, annuler
        job_service.cancel(studio, job_id)
    return True


class Silent:
    """With --json: nothing until the end."""

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *_: object) -> None:
        return

    def show(self, event: JobEvent) -> None:
        """Print nothing."""


class Lines(Silent):
    """For logs and pipes."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._last = 0.0

    def show(self, event: JobEvent) -> None:
        """Print phases and results at once, steps and downloads now and then."""
        text = describe(self._terminal, event)
        quick = isinstance(event, StepLogged | DownloadProgressed)
        if isinstance(event, StepLogged):
            quick = event.step < event.total_steps
            text = self._terminal.say(
                "step_line", step=event.step, total=event.total_steps, loss=f"{event.loss:.3f}",
                rate=f"{event.tokens_per_second:.0f}", eta=format_seconds(event.eta_seconds),
            )  # fmt: skip
        if text and (not quick or time.monotonic() - self._last >= LINE_SECONDS):
            self._last = time.monotonic() if quick else self._last
            self._terminal.print(text)


class Bar(Silent):
    """A progress bar with loss, speed and the time that is left."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._progress = make_progress(terminal)
        self._task = self._progress.add_task(terminal.say("phase_waiting"), total=None, detail="")

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, event: JobEvent) -> None:
        """Move the bar, or print a line above it."""
        if isinstance(event, StepLogged):
            detail = self._terminal.say(
                "bar_detail",
                loss=f"{event.loss:.3f}",
                rate=f"{event.tokens_per_second:.0f}",
                eta=format_seconds(event.eta_seconds),
            )
            self._progress.update(self._task, total=event.total_steps, completed=event.step, detail=detail)
        elif isinstance(event, DownloadProgressed):
            detail = f"{format_bytes(event.done_bytes)} / {format_bytes(event.total_bytes)}"
            self._progress.update(self._task, total=event.total_bytes, completed=event.done_bytes, detail=detail)
        elif isinstance(event, PhaseStarted):
            self._progress.update(self._task, description=self._terminal.say(f"phase_{event.phase}"))
        elif text := describe(self._terminal, event):
            self._progress.console.print(text)


def describe(terminal: Terminal, event: JobEvent) -> str:
    """Return the sentence for an event that deserves a line of its own; "" for the others."""
    if isinstance(event, EvalLogged):
        key = "heldout_line" if event.step else "heldout_first"
        return f"  [dim]{terminal.say(key, epoch=f'{event.epoch:.0f}', loss=f'{event.loss:.3f}')}[/]"
    if isinstance(event, Noted):
        mark = "[yellow]![/]" if event.level == "warning" else "[cyan]i[/]"
        return f"  {mark} {localise(event.key, terminal.language, **event.params)[0]}"
    if isinstance(event, PhaseStarted):
        return f"  [dim]{terminal.say('phase_' + event.phase)}[/]"
    return ""


def make_progress(terminal: Terminal) -> "Progress":
    """Return the bar's layout."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    return Progress(
        SpinnerColumn(style="cyan"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=32, complete_style="cyan", finished_style="green"),
        MofNCompleteColumn(),
        TextColumn("[dim]{task.fields[detail]}[/]"),
        console=terminal.console,
    )


def open_view(terminal: Terminal) -> Silent | Lines | Bar:
    """Choose how to show progress: nothing for programs, a bar on a terminal, lines elsewhere."""
    if terminal.as_json:
        return Silent()
    return Bar(terminal) if terminal.console.is_terminal else Lines(terminal)
