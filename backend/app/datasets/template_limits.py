"""What one rendering of a chat template may take, in every process that renders: trainers, chat workers, exports.

A template is a program from the hub. The server renders none; the process that counts and shows tokens has limits for its
whole life (`datasets/__main__.py`), and the others, which also hold a model, have these around each rendering.
"""

import os
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from app.core.errors import ModelUnavailable

RENDER_SECONDS = 10.0
"""Processor time of this process; a conversation of a thousand turns takes a hundredth."""
RENDER_BYTES = 1 << 30
"""Memory beyond what the process has."""


class _TooLong(BaseException):
    """Passes through whatever the template's expressions catch."""


class _Stopwatch:
    """Raises _TooLong in the main thread when its time is over, and only while it is asked to."""

    def __init__(self) -> None:
        self._is_on = self._is_set = False

    def start(self, seconds: float) -> None:
        if not self._is_set:
            signal.signal(signal.SIGVTALRM, self._ring)
            self._is_set = True
        self._is_on = True
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)

    def stop(self) -> None:
        self._is_on = False  # first: a signal that has come already is handled after this line
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)

    def _ring(self, _number: int, _frame: FrameType | None) -> None:
        if self._is_on:
            self._is_on = False
            raise _TooLong


_stopwatch = _Stopwatch()


@contextmanager
def rendering() -> Iterator[None]:
    """Limit what happens inside. Raise ModelUnavailable (`template_broken`) for what takes too long or too much.

    Only the main thread can be interrupted, and only there a limit on memory cannot hit what another thread does: elsewhere,
    and in a process that has limits of its own, this does nothing.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY or threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = _address_space()
    try:
        _stopwatch.start(RENDER_SECONDS)
        if taken is not None:
            resource.setrlimit(resource.RLIMIT_AS, (taken + RENDER_BYTES, hard))
        try:
            yield
        finally:
            _stopwatch.stop()
            if taken is not None:
                resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    except _TooLong:
        raise ModelUnavailable("template_broken", reason=f"more than {RENDER_SECONDS:g} s") from None
    except MemoryError:
        raise ModelUnavailable("template_broken", reason="out of memory") from None


def _address_space() -> int | None:
    """Return the bytes of address space of this process, or None where the system does not tell (macOS)."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_bytes().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    return None
