"""Tokenise a text piece by piece, so that the ids of a piece do not depend on what follows it.

How a run of text is tokenised may depend on the ids before it. So the work on one row is a generator, an `Encoding`: it
yields one run after another and is sent the ids of each. `complete` serves many of them in step, with one call of the
tokenizer for a run of each, which uses every core.
"""

import re
from collections.abc import Generator, Sequence
from functools import cached_property
from typing import NamedTuple, TypeVar

from tokenizers import Tokenizer

from app.datasets.word_cache import WordCache

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
"""Unicode noncharacters, never part of real text: they fence control tokens inside messages until tokenisation."""
_FENCED = re.compile(f"{_OPEN}(.*?){_CLOSE}", re.DOTALL)

_ANCHOR = "\n"
"""Set before a piece so that the tokenizer does not take its first word for the start of a text."""


class Run(NamedTuple):
    """A text that is tokenised by itself."""

    text: str
    literal: bool = False
    """Whether control tokens in it are ordinary text."""


T = TypeVar("T")
Encoding = Generator[Run, list[int], T]


class PieceTokenizer:
    """Gives a piece the ids that it has inside the whole text. Not safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer, end_token: str) -> None:
        self._tokenizer = tokenizer
        self._words = WordCache(tokenizer)
        added = tokenizer.get_added_tokens_decoder()
        self._added_ids = set(added)
        self.special_ids = {token for token, value in added.items() if value.special}
        """Ids of the control tokens."""
        controls = sorted((value.content for value in added.values() if value.special), key=len, reverse=True)
        self._control = re.compile("|".join(re.escape(text) for text in controls) or "(?!)")
        self._control_starts = sorted({text[0] for text in controls})
        self._marks_starts, self._marks_after_added = self._start_marks(end_token)

    def fence(self, content: str) -> str:
        """Mark the control tokens that somebody typed: `encode` makes ordinary text of them."""
        if _OPEN in content or _CLOSE in content:
            content = content.replace(_OPEN, "").replace(_CLOSE, "")
        if not any(map(content.__contains__, self._control_starts)):
            return content
        return self._control.sub(lambda found: f"{_OPEN}{found.group()}{_CLOSE}", content)

    def encode(self, text: str, previous: int | None) -> Encoding[list[int]]:
        """Find the ids of `text` where it continues a sequence that ends in `previous` (None: it starts one)."""
        if _OPEN not in text:
            return (yield from self._encode_run(Run(text), previous))
        ids: list[int] = []
        for index, part in enumerate(_FENCED.split(text)):
            ids += yield from self._encode_run(Run(part, literal=index % 2 == 1), ids[-1] if ids else previous)
        return ids

    def complete(self, encodings: Sequence[Encoding[T]]) -> list[T]:
        """Return what each of `encodings` returns."""
        runs: dict[int, Run] = {}
        results: dict[int, T] = {}

        def advance(place: int, ids: list[int] | None) -> None:
            try:
                runs[place] = encodings[place].send(ids) if ids is not None else next(encodings[place])
            except StopIteration as done:
                runs.pop(place, None)
                results[place] = done.value

        for place in range(len(encodings)):
            advance(place, None)
        while runs:
            for place, ids in zip(list(runs), self._tokenise(list(runs.values())), strict=True):
                advance(place, ids)
        return [results[place] for place in range(len(encodings))]

    def _encode_run(self, run: Run, previous: int | None) -> Encoding[list[int]]:
        if not run.text:
            return []
        continues = previous is not None and not (self._marks_after_added and previous in self._added_ids)
        if self._marks_starts and continues:
            anchor = self._anchors[run.literal]
            ids = yield Run(_ANCHOR + run.text, run.literal)
            if ids[: len(anchor)] == anchor:
                return ids[len(anchor) :]
        return (yield run)

    def _tokenise(self, runs: Sequence[Run]) -> list[list[int]]:
        ids: list[list[int]] = [[] for _ in runs]
        for literal in (False, True):
            places = [place for place, run in enumerate(runs) if run.literal is literal]
            if places:
                words = self._literal_words if literal else self._words
                for place, found in zip(places, words.encode([runs[place].text for place in places]), strict=True):
                    ids[place] = found
        return ids

    @cached_property
    def _anchors(self) -> tuple[list[int], list[int]]:
        """The ids of _ANCHOR: of ordinary runs, of literal ones."""
        ordinary, literal = self._tokenise([Run(_ANCHOR), Run(_ANCHOR, literal=True)])
        return ordinary, literal

    @cached_property
    def _literal_words(self) -> WordCache:
        """The same tokenizer, to which special tokens are ordinary text."""
        literal = Tokenizer.from_str(self._tokenizer.to_str())
        literal.encode_special_tokens = True
        return WordCache(literal)

    def _start_marks(self, end_token: str) -> tuple[bool, bool]:
        """Measure whether the tokenizer marks the first word of a text (SentencePiece's dummy space).

        Second value: whether it does so after an added token as well (Llama 2's "legacy" behaviour).
        """

        def encode(text: str) -> list[int]:
            return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

        marks = encode(_ANCHOR + "a") != encode(_ANCHOR) + encode("a")
        return marks, marks and encode(end_token + "a") == [*encode(end_token), *encode("a")]
