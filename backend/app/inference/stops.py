"""End an answer before a stop text, without ever giving out a piece of that text."""

from collections.abc import Sequence


class StopGuard:
    """Takes an answer's text piece by piece and holds back what may be the beginning of a stop text."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.reached = False
        """Whether a stop text has come; nothing is given out after it."""

    def push(self, piece: str) -> str:
        """Take more text and return what is certain to belong to the answer."""
        if self.reached or not self._stops:
            return "" if self.reached else piece
        text = self._held + piece
        places = [place for place in (text.find(stop) for stop in self._stops) if place >= 0]
        if places:
            self.reached, self._held = True, ""
            return text[: min(places)]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        """Return what was held back: the answer has ended and no stop text came."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of `text` are the beginning of `stop`."""
    most = min(len(text), len(stop) - 1)
    return next((size for size in range(most, 0, -1) if stop.startswith(text[len(text) - size :])), 0)
