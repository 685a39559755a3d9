"""Which rows are held out: measured before and after training, never trained."""

import hashlib
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import repeat
from operator import add

from app.contracts.dataset import PlainExample
from app.datasets.equal_keys import count_distinct

MINIMUM_DISTINCT_ROWS = 50
"""Below this many distinct rows nothing is held out: each row is worth more in training."""

HELDOUT_SHARE = 0.1
MINIMUM_HELDOUT_ROWS = 20
"""Fewer held-out rows make a loss that moves by chance."""

MOST_CLASSES = 50
"""More different answers than this are texts, not classes."""
ROWS_PER_CLASS = 5
"""Rows per answer, on average, from which on answers count as classes."""
MANY_ROWS = 20_000
"""From here on only part of the prompts is looked at, which bounds the memory; below, all."""

_64_BITS = (1 << 64) - 1
_BLAKE = hashlib.blake2b(digest_size=8)
_PAIR_ROLES = ("user", "assistant")
_COUNT_BITS = 40
"""Of the number that stands for a prompt: its rows; the stratum lies above them."""


class RowKeys:
    """A few numbers per row, all that splitting keeps in memory (19 bytes a row)."""

    def __init__(self) -> None:
        self._prompts = array("Q")
        self._rows = array("Q")
        self._own = bytearray()
        """Per row: 0 = the file says nothing, 1 = to train, 2 = held out."""
        self._kinds = bytearray()
        """Per row: what it is like: how long, and how its answer is judged."""
        self._classes = bytearray()
        """Per row: the place of its answer in `_answers`; empty once there are too many answers for classes."""
        self._answers: dict[int, int] = {}

    def add(self, example: PlainExample, heldout: bool | None = None) -> None:
        """Take the next row; `heldout` is what the file itself says about it."""
        key, length, prompt, answer = _look_at(example)
        self._own.append(0 if heldout is None else 1 + heldout)
        self._prompts.append(hash_text(prompt))
        self._rows.append(key)
        judgement = example.get("desirable")
        judged = 0 if judgement is None else 1 + judgement
        self._kinds.append(judged << 6 | min(63, length.bit_length()))
        if len(self._answers) <= MOST_CLASSES:
            self._classes.append(self._answers.setdefault(hash_text(answer), len(self._answers)))

    def add_pairs(self, questions: Sequence[str], answers: Sequence[str], heldout: Iterable[bool | None]) -> None:
        """Take rows that are a question with its answer: what `add` does with each, several times as fast."""
        questions, answers = list(map(str.strip, questions)), list(map(str.strip, answers))
        self._own.extend(0 if held is None else 1 + held for held in heldout)
        self._prompts.extend(_hash_texts(map(_plain, questions)))
        keys = map(hash, zip(repeat(_PAIR_ROLES), zip(questions, answers, strict=True), repeat(None), strict=False))
        self._rows.frombytes(array("q", keys).tobytes())
        self._kinds.extend(map(int.bit_length, map(add, map(len, questions), map(len, answers))))
        for answer in answers:
            if len(self._answers) > MOST_CLASSES:
                break
            self._classes.append(self._answers.setdefault(hash_text(answer), len(self._answers)))

    @cached_property
    def distinct_rows(self) -> int:
        """Rows that differ from each other in their text; to be asked for after the last row."""
        return count_distinct(self._rows)

    def choose_heldout(self) -> bytearray:
        """Return one flag per row: 1 = held out.

        Rows with the same prompt (for a text row: the same text) go to the same side, so that no held-out prompt
        stands in training. Every stratum (a class; else rows of about one length, judged alike) gives its share. The
        order in which prompts are taken follows their hash: the same rows give the same choice, whatever their order
        in the file. Nothing is held out where that would leave fewer than MINIMUM_HELDOUT_ROWS on that side (nearly
        all rows share one prompt).
        """
        flags = bytearray(len(self._prompts))
        if 2 in self._own and self._own.count(2) < len(self._own):
            return self._respect_own()
        if self.distinct_rows < MINIMUM_DISTINCT_ROWS:
            return flags
        wanted = max(MINIMUM_HELDOUT_ROWS, round(HELDOUT_SHARE * len(flags)))
        chosen, held = self._choose(wanted, 1.5 * wanted / len(flags) if len(flags) >= MANY_ROWS else 1.0)
        if held < wanted:
            chosen, held = self._choose(wanted, 1.0)
        if held < MINIMUM_HELDOUT_ROWS:
            return flags
        return bytearray(map(chosen.__contains__, self._prompts))

    def _respect_own(self) -> bytearray:
        """Hold out what the file holds out, and the training rows with the same prompt: nothing measured is trained."""
        held = {prompt for prompt, own in zip(self._prompts, self._own, strict=True) if own == 2}
        return bytearray(map(held.__contains__, self._prompts))

    def _choose(self, wanted: int, share: float) -> tuple[set[int], int]:
        """Return prompts with about `wanted` rows together, and how many rows they have; looks at `share` of all prompts."""
        prompts = self._gather(share)
        members: dict[int, list[int]] = {}
        for prompt in sorted(prompts):
            members.setdefault(prompts[prompt] >> _COUNT_BITS, []).append(prompt)
        rows_of = {prompt: number & ((1 << _COUNT_BITS) - 1) for prompt, number in prompts.items()}
        sizes = dict(sorted(Counter(self._strata()).items()))
        chosen: set[int] = set()
        for stratum, quota in zip(sizes, share_out(wanted, list(sizes.values())), strict=True):
            free = quota
            for prompt in members.get(stratum, ()):
                if not free:
                    break
                if rows_of[prompt] <= free:
                    chosen.add(prompt)
                    free -= rows_of[prompt]
        held = sum(rows_of[prompt] for prompt in chosen)
        for prompt in sorted(prompts.keys() - chosen) if held < wanted else ():
            # A prompt with very many rows would overshoot: it stays in training.
            if held + rows_of[prompt] <= wanted + MINIMUM_HELDOUT_ROWS // 2:
                chosen.add(prompt)
                held += rows_of[prompt]
            if held >= wanted:
                break
        return chosen, held

    def _gather(self, share: float) -> dict[int, int]:
        """Return, for prompts in the lowest `share` of the hashes, the rows of each, with its stratum above _COUNT_BITS.

        A prompt whose rows lie in several strata counts to the lowest.
        """
        last = min((1 << 64) - 1, int(share * 2**64))
        found: dict[int, int] = {}
        for prompt, stratum in zip(self._prompts, self._strata(), strict=True):
            if prompt > last:
                continue
            before = found.get(prompt)
            if before is None:
                found[prompt] = stratum << _COUNT_BITS | 1
            else:
                rows = (before & ((1 << _COUNT_BITS) - 1)) + 1
                found[prompt] = min(before >> _COUNT_BITS, stratum) << _COUNT_BITS | rows
        return found

    def _strata(self) -> Iterator[int]:
        """Yield each row's stratum: its class where answers are classes, else its kind."""
        if len(self._answers) > min(MOST_CLASSES, len(self._prompts) // ROWS_PER_CLASS):
            yield from self._kinds
            return
        # By the answers' hashes, which do not depend on the order of the rows.
        places = {place: rank for rank, (_, place) in enumerate(sorted(self._answers.items()))}
        for place, kind in zip(self._classes, self._kinds, strict=True):
            yield (places[place] << 2) | (kind >> 6)


def share_out(wanted: int, sizes: list[int]) -> list[int]:
    """Return `wanted` divided in proportion to `sizes`, in whole numbers; what rounding leaves goes to the largest rests."""
    total = sum(sizes)
    shares = [min(1.0, wanted / total) * size for size in sizes] if total else []
    whole = [int(share) for share in shares]
    rests = sorted(range(len(sizes)), key=lambda place: (whole[place] - shares[place], place))
    for place in rests[: min(wanted, total) - sum(whole)]:
        whole[place] += 1
    return whole


def identify(example: PlainExample) -> tuple[int, int]:
    """Return 64 bits that stand for the row in this process, and its characters; white space around texts is left out.

    Rows with the same roles, texts and judgement are the same row.
    """
    messages = example.get("messages")
    if messages is None:
        text = example.get("text", "").strip()
        return hash(text) & _64_BITS, len(text)
    if "rejected" in example:
        messages = [*messages, *example["rejected"]]
    texts = tuple([message["content"].strip() for message in messages])
    roles = tuple([message["role"] for message in messages])
    return hash((roles, texts, example.get("desirable"))) & _64_BITS, sum(map(len, texts))


def prompt_text(example: PlainExample) -> str:
    """Return everything before the first answer to a question, without regard to case and white space."""
    messages = example.get("messages")
    if messages is None:
        return _plain(example.get("text", ""))
    asked = False
    parts: list[str] = []
    for message in messages:
        role = message["role"]
        if asked and role == "assistant":
            break
        asked = asked or role == "user"
        parts.append(_plain(message["content"]))
    return "\x1e".join(parts)


def answer_text(example: PlainExample) -> str:
    """Return the last turn, which names the class in data for classification; for a text row the text."""
    messages = example.get("messages")
    return messages[-1]["content"].strip() if messages else example.get("text", "")


def hash_text(text: str) -> int:
    """Return 64 bits that are the same in every process: the choice of held-out rows follows them."""
    return int.from_bytes(_digest(text), "big")


def _hash_texts(texts: Iterable[str]) -> "array[int]":
    """Return what hash_text gives for each."""
    found = array("Q", b"".join(map(_digest, texts)))
    if sys.byteorder == "little":
        found.byteswap()
    return found


def _digest(text: str) -> bytes:
    found = _BLAKE.copy()
    found.update(text.encode())
    return found.digest()


def _look_at(example: PlainExample) -> tuple[int, int, str, str]:
    """Return what identify, prompt_text and answer_text return; a question with its answer, the usual row, in one go."""
    messages = example.get("messages")
    if messages is not None and len(messages) == 2 and len(example) == 2:
        question, answer = messages
        if question["role"] == "user" and answer["role"] == "assistant":
            texts = question["content"].strip(), answer["content"].strip()
            return hash((_PAIR_ROLES, texts, None)) & _64_BITS, len(texts[0]) + len(texts[1]), _plain(texts[0]), texts[1]
    return *identify(example), prompt_text(example), answer_text(example)


def _plain(text: str) -> str:
    """Return a text in one case, with one space between words and none around it."""
    if text.isascii():
        lines = text.replace("\n\n", " ").replace("\n", " ") if "\n" in text else text
        if lines.isprintable() and "  " not in lines:
            return lines.strip().lower()
    return " ".join(text.casefold().split())
