"""Tokenise a text piece by piece, so that the ids of a piece do not depend on what follows it."""

import re
from functools import cached_property

from tokenizers import Tokenizer

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
"""Unicode noncharacters, never part of real text: they fence control tokens inside messages until tokenisation."""
_FENCED = re.compile(f"{_OPEN}(.*?){_CLOSE}", re.DOTALL)

_ANCHOR = "\n"
"""Set before a piece so that the tokenizer does not take its first word for the start of a text."""


class PieceTokenizer:
    """Gives a piece the ids that it has inside the whole text. Not safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer, end_token: str) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self._added_ids = set(added)
        self.special_ids = {token for token, value in added.items() if value.special}
        """Ids of the control tokens."""
        controls = sorted((value.content for value in added.values() if value.special), key=len, reverse=True)
        self._control = re.compile("|".join(re.escape(text) for text in controls) or "(?!)")
        self._marks_starts, self._marks_after_added = self._start_marks(end_token)

    def fence(self, content: str) -> str:
        """Mark the control tokens that somebody typed: `encode` makes ordinary text of them."""
        if _OPEN in content or _CLOSE in content:
            content = content.replace(_OPEN, "").replace(_CLOSE, "")
        return self._control.sub(lambda found: f"{_OPEN}{found.group()}{_CLOSE}", content)

    def encode(self, text: str, previous: int | None) -> list[int]:
        """Return the ids of `text` where it continues a sequence that ends in `previous` (None: it starts one)."""
        if _OPEN not in text:
            return self._encode_run(self._tokenizer, text, previous)
        ids: list[int] = []
        for index, run in enumerate(_FENCED.split(text)):
            tokenizer = self._literal_tokenizer if index % 2 else self._tokenizer
            ids += self._encode_run(tokenizer, run, ids[-1] if ids else previous)
        return ids

    def _encode_run(self, tokenizer: Tokenizer, text: str, previous: int | None) -> list[int]:
        if not text:
            return []
        continues = previous is not None and not (self._marks_after_added and previous in self._added_ids)
        if self._marks_starts and continues:
            anchor = tokenizer.encode(_ANCHOR, add_special_tokens=False).ids
            ids: list[int] = tokenizer.encode(_ANCHOR + text, add_special_tokens=False).ids
            if ids[: len(anchor)] == anchor:
                return ids[len(anchor) :]
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    @cached_property
    def _literal_tokenizer(self) -> Tokenizer:
        """The same tokenizer, to which special tokens are ordinary text."""
        literal = Tokenizer.from_str(self._tokenizer.to_str())
        literal.encode_special_tokens = True
        return literal

    def _start_marks(self, end_token: str) -> tuple[bool, bool]:
        """Measure whether the tokenizer marks the first word of a text (SentencePiece's dummy space).

        Second value: whether it does so after an added token as well (Llama 2's "legacy" behaviour).
        """

        def encode(text: str) -> list[int]:
            return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

        marks = encode(_ANCHOR + "a") != encode(_ANCHOR) + encode("a")
        return marks, marks and encode(end_token + "a") == [*encode(end_token), *encode("a")]
