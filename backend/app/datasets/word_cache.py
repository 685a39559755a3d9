"""Ids of the words that were tokenised before: a tokenizer's work is done once for each word, not for each place it stands.

Exact where the tokenizer itself cuts before every single space and looks at nothing beyond the cut: byte-level BPE, whose
patterns (GPT-2's and its descendants') take a space with the word after it. Other tokenizers are asked as they are.
"""

import json
import re
from collections.abc import Sequence
from itertools import chain, islice
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import BPE

MOST_WORDS = MOST_PARTS = 1 << 16
"""That are remembered, about 25 MB; then all are forgotten at once. There are more words than parts they are made of."""
LONGEST_WORD = 64
"""Characters of a word worth remembering."""

_WIDE_GAP = re.compile(r"\s ")
_WIDE_GAPS = tuple(f"{space} " for space in " \n\r\t\v\f")
_CUT = re.compile(r" (?<=[^\s\u180e] )")
"""A space that follows anything but white space. U+180E was white space in old versions of Unicode."""
_LETTER, _DIGIT, _MARK = "A-Za-z", "0-9", r"!-/:-@\[-`{-~"
_CUT_WORD = re.compile(
    rf"(?<=[{_LETTER}])(?=[{_DIGIT}{_MARK}\n])|(?<=[{_DIGIT}])(?=[{_LETTER}{_MARK}\n])|(?<=[{_MARK}])(?=[{_DIGIT}])"
)
"""Where letters, digits and marks of ASCII meet, and before a line break; not from marks to what may belong to them."""

_LETTERS_LLAMA_3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_PATTERNS = frozenset({_LETTERS_LLAMA_3 % r"\p{N}{1,3}", _LETTERS_LLAMA_3 % r"\p{N}"})
"""Llama 3's and Qwen's. A word ends before a space in each alternative but those of white space, which begin with its first."""
_NORMALIZERS = frozenset({"NFC", "NFD"})
"""Neither joins a space to what stands before it."""


class WordCache:
    """Tokenises texts, without special tokens of its own. Not safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._cuts = cuts_before_spaces(tokenizer)
        added = sorted((token.content for token in tokenizer.get_added_tokens_decoder().values()), key=len, reverse=True)
        self._added = re.compile(f"({'|'.join(map(re.escape, added)) or '(?!)'})")
        self._marks_tokens = not tokenizer.encode_special_tokens
        self._first: dict[str, tuple[int, ...]] = {}
        self._spaced: dict[str, tuple[int, ...]] = {}
        """Ids of a word with the space before it, by the word alone. Tuples: Python's collector does not look into them."""
        self._parts: dict[str, tuple[int, ...]] = {}
        """Ids of what such words are made of."""
        self._long: list[tuple[dict[str, tuple[int, ...]], str]] = []
        """Entries that are not kept after a call."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, those that the tokenizer gives to the whole of it."""
        if not self._cuts:
            return self._ask(texts)
        # The tokenizer takes its own tokens out of a text before anything else.
        stretches = [self._added.split(text) if self._marks_tokens else [text] for text in texts]
        cut = [_CUT.split(text) if _has_wide_gap(text) else text.split(" ") for text in chain.from_iterable(stretches)]
        firsts = [words.pop(0) for words in cut]
        self._learn(self._first, set(firsts), "")
        self._learn(self._spaced, set().union(*cut), " ")
        words_of = zip(firsts, cut, strict=True)
        ids = []
        for parts in stretches:
            whole: list[int] = []
            for first, words in islice(words_of, len(parts)):
                whole += self._first[first]
                whole.extend(chain.from_iterable(map(self._spaced.__getitem__, words)))
            ids.append(whole)
        self._forget()
        return ids

    def _ask(self, texts: Sequence[str]) -> list[list[int]]:
        return [found.ids for found in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def _learn(self, known: dict[str, tuple[int, ...]], words: set[str], before: str) -> None:
        """Tokenise the words that are not known, by their parts."""
        unknown = list(words.difference(known))
        cut = [self._cut_word(before + word) for word in unknown]
        new = list(set().union(*cut).difference(self._parts))
        self._parts.update(zip(new, map(tuple, self._ask(new)), strict=True))
        for word, parts in zip(unknown, cut, strict=True):
            found = map(self._parts.__getitem__, parts)
            known[word] = next(found) if len(parts) == 1 else tuple(chain.from_iterable(found))
        self._long += [(known, word) for word in unknown if len(word) > LONGEST_WORD]
        self._long += [(self._parts, part) for part in new if len(part) > LONGEST_WORD]

    def _cut_word(self, word: str) -> list[str]:
        return [word] if word[1:].isalpha() or self._added.search(word) else _CUT_WORD.split(word)

    def _forget(self) -> None:
        """Keep no long words, and no more than MOST_WORDS and MOST_PARTS."""
        for known, word in self._long:
            del known[word]
        self._long.clear()
        if len(self._first) + len(self._spaced) > MOST_WORDS:
            self._first.clear()
            self._spaced.clear()
        if len(self._parts) > MOST_PARTS:
            self._parts.clear()


def _has_wide_gap(text: str) -> bool:
    """Return whether a space follows white space."""
    return any(map(text.__contains__, _WIDE_GAPS)) if text.isascii() else _WIDE_GAP.search(text) is not None


def cuts_before_spaces(tokenizer: Tokenizer) -> bool:
    """Return whether a text may be cut before each space that follows no white space without a change to its ids."""
    model = tokenizer.model
    if not isinstance(model, BPE) or model.dropout:
        return False
    for token in tokenizer.get_added_tokens_decoder().values():
        if " " in token.content or token.lstrip or token.rstrip or token.single_word:
            return False
        if token.normalized and tokenizer.normalizer is not None:
            return False
    normalizers = _parts(tokenizer.normalizer, "normalizers")
    pre_tokenizers = _parts(tokenizer.pre_tokenizer, "pretokenizers")
    return (
        all(part["type"] in _NORMALIZERS for part in normalizers)
        and all(_keeps_words(part) for part in pre_tokenizers)
        and any(_splits_words(part) for part in pre_tokenizers)
    )


def _parts(component: Any, sequence: str) -> list[dict[str, Any]]:
    """Return the settings of a normalizer's or a pre-tokenizer's parts, as tokenizer.json holds them."""
    if component is None:
        return []
    settings: dict[str, Any] = json.loads(component.__getstate__())
    return list(settings[sequence]) if settings["type"] == "Sequence" else [settings]


def _keeps_words(part: dict[str, Any]) -> bool:
    return part["type"] == "Digits" or (part["type"] == "ByteLevel" and not part["add_prefix_space"]) or _splits_words(part)


def _splits_words(part: dict[str, Any]) -> bool:
    if part["type"] == "ByteLevel":
        return bool(part["use_regex"]) and not part["add_prefix_space"]
    is_known = part["type"] == "Split" and part["pattern"].get("Regex") in _PATTERNS
    return is_known and part["behavior"] == "Isolated" and not part["invert"]
