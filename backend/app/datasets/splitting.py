"""Which rows are held out: measured before and after training, never trained."""

import hashlib
from array import array
from collections import Counter

from app.contracts.dataset import Example

MINIMUM_DISTINCT_ROWS = 50
"""Below this many distinct rows nothing is held out: each row is worth more in training."""

HELDOUT_SHARE = 0.1
MINIMUM_HELDOUT_ROWS = 20
"""Fewer held-out rows make a loss that moves by chance."""


class RowKeys:
    """Two 64-bit hashes per row, all that splitting keeps in memory (16 bytes a row, and one entry per distinct row)."""

    def __init__(self) -> None:
        self._prompts = array("Q")
        self._distinct: set[int] = set()
        self._own = bytearray()
        """Per row: 0 = the file says nothing, 1 = to train, 2 = held out."""

    def add(self, example: Example, heldout: bool | None = None) -> None:
        """Take the next row; `heldout` is what the file itself says about it."""
        self._own.append(0 if heldout is None else 1 + heldout)
        self._prompts.append(_hash(_prompt(example)))
        self._distinct.add(_hash(_whole(example)))

    @property
    def distinct_rows(self) -> int:
        """Rows that differ from each other in their text."""
        return len(self._distinct)

    def choose_heldout(self) -> bytearray:
        """Return one flag per row: 1 = held out.

        Rows with the same prompt (for a text row: the same text) go to the same side, so that no held-out prompt
        stands in training. The order in which prompts are taken follows their hash: the same rows give the same
        choice, whatever their order in the file. Nothing is held out where that would leave fewer than
        MINIMUM_HELDOUT_ROWS on that side (nearly all rows share one prompt).
        """
        flags = bytearray(len(self._prompts))
        if 2 in self._own and self._own.count(2) < len(self._own):
            return self._respect_own(flags)
        if self.distinct_rows < MINIMUM_DISTINCT_ROWS:
            return flags
        wanted = max(MINIMUM_HELDOUT_ROWS, round(HELDOUT_SHARE * len(self._prompts)))
        rows_of = Counter(self._prompts)
        chosen: set[int] = set()
        held = 0
        for prompt in sorted(rows_of):
            if held >= wanted:
                break
            # A prompt with very many rows would overshoot: it stays in training.
            if held + rows_of[prompt] <= wanted + MINIMUM_HELDOUT_ROWS // 2:
                chosen.add(prompt)
                held += rows_of[prompt]
        if held < MINIMUM_HELDOUT_ROWS:
            return flags
        for row, prompt in enumerate(self._prompts):
            flags[row] = prompt in chosen
        return flags

    def _respect_own(self, flags: bytearray) -> bytearray:
        """Hold out what the file holds out, and the training rows with the same prompt: nothing measured is trained."""
        held = {prompt for prompt, own in zip(self._prompts, self._own, strict=True) if own == 2}
        for row, prompt in enumerate(self._prompts):
            flags[row] = prompt in held
        return flags


def _whole(example: Example) -> str:
    if example.messages is None:
        return (example.text or "").strip()
    turns = [*example.messages, *(example.rejected or [])]
    judged = "" if example.desirable is None else f"\x1d{example.desirable}"
    return "\x1e".join(f"{message.role}\x1f{message.content.strip()}" for message in turns) + judged


def _prompt(example: Example) -> str:
    """Everything before the first answer to a question, without regard to case and white space."""
    if example.messages is None:
        return " ".join((example.text or "").casefold().split())
    parts: list[str] = []
    asked = False
    for message in example.messages:
        if message.role == "assistant" and asked:
            break
        asked = asked or message.role == "user"
        parts.append(" ".join(message.content.casefold().split()))
    return "\x1e".join(parts)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
