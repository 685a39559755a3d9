"""Token ids to text, piece by piece, without ever cutting a character in two.

A token can hold part of a UTF-8 character (byte-level BPE), and a token's text can depend on its neighbour
(SentencePiece drops the space of a first word). So a small window of ids is decoded with and without the newest ones,
and the difference is given out once it ends on a whole character.
"""

from collections.abc import Callable, Sequence

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""What a decoder writes for bytes that are no character (yet)."""


class TextStream:
    """Collects ids and gives out text as soon as it is certain."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._window = 0
        """Start of the ids that are decoded together."""
        self._given = 0
        """End of the ids whose text has been given out."""

    def push(self, token: int) -> str:
        """Take one more id and return the new text; empty while a character is incomplete."""
        self._ids.append(token)
        before, after = self._texts()
        if after.endswith(REPLACEMENT) or len(after) <= len(before):
            return ""
        self._window, self._given = self._given, len(self._ids)
        return after[len(before) :]

    def flush(self) -> str:
        """Return what is left at the end of the answer, broken characters included."""
        before, after = self._texts()
        self._window = self._given = len(self._ids)
        return after[len(before) :]

    def _texts(self) -> tuple[str, str]:
        return self._decode(self._ids[self._window : self._given]), self._decode(self._ids[self._window :])
