"""How far the imports of this process are: whoever sends a file may name its import and ask."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.core.errors import Cancelled, NotFound
from app.datasets.rows import Stage, Watch

ASK_SECONDS = 0.25
"""How often an import looks whether anybody still waits for it."""


@dataclass(frozen=True)
class ImportState:
    """How far one stage of an import is; sizes in bytes of what the stage reads."""

    stage: Stage
    done_bytes: int
    total_bytes: int
    seconds: float
    """Since the stage began."""


class Imports:
    """The imports under way in this process, by the name that their sender gave them."""

    def __init__(self, ask_seconds: float = ASK_SECONDS) -> None:
        self._ask_seconds = ask_seconds
        self._lock = threading.Lock()
        self._running: dict[str, ImportState] = {}

    @contextmanager
    def watching(self, import_id: str | None, is_left: Callable[[], bool]) -> Iterator[Watch]:
        """Yield what an import reports to; it raises Cancelled as soon as `is_left` says that nobody waits for the result."""
        began: dict[Stage, float] = {}
        asked = time.monotonic()

        def watch(stage: Stage, done_bytes: int, total_bytes: int) -> None:
            nonlocal asked
            now = time.monotonic()
            if import_id is not None:
                state = ImportState(stage, done_bytes, total_bytes, now - began.setdefault(stage, now))
                with self._lock:
                    self._running[import_id] = state
            if now - asked >= self._ask_seconds:
                asked = now
                if is_left():
                    raise Cancelled("import")

        try:
            yield watch
        finally:
            if import_id is not None:
                with self._lock:
                    self._running.pop(import_id, None)

    def get(self, import_id: str) -> ImportState:
        """Return how far an import is. Raise NotFound before its first row and after its last."""
        with self._lock:
            state = self._running.get(import_id)
        if state is None:
            raise NotFound("import", import_id=import_id)
        return state
