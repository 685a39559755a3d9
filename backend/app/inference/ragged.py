"""Answers that a compiled model writes at the same time, each at its own place and with its own adapter.

A step takes one token of every answer that is being written and, up to PROMPT_TOKENS, those of prompts that wait: an answer
never stands still for long because another one begins. What a prompt has in common with the beginning of an answer that
is still known (a system prompt, the turns before) is copied instead of computed: bit for bit the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from app.inference.adapters import AdapterKey, Adapters
from app.inference.batch import Answer
from app.training.compiled import LANES, PLACES, RANKS, CompiledModel, Stretch, is_plain, stack_adapters

PROMPT_TOKENS = 256
"""Tokens of prompts in one step, at most."""
KNOWN_BYTES = 128 << 20
"""Keys and values of ended answers that are kept."""
SHARED_TOKENS = 16
"""A shorter common beginning is not worth the copy."""


@dataclass(eq=False)
class _Line:
    """An answer from its prompt on."""

    answer: Answer
    ids: list[int]
    """The prompt, and what was said."""
    cache: Tensor
    read: int = 0
    """Tokens whose keys and values stand in the cache."""


@dataclass
class _Known:
    """The beginning of an answer that may come again."""

    adapter: AdapterKey | None
    ids: list[int]
    cache: Tensor


@dataclass
class RaggedBatch:
    """The answers of one compiled model."""

    model: CompiledModel
    adapters: Adapters
    _lines: list[_Line] = field(default_factory=list)
    _known: list[_Known] = field(default_factory=list)
    _ranks: dict[AdapterKey, tuple[int, int]] = field(default_factory=dict)

    @property
    def answers(self) -> list[Answer]:
        """Those that are being written."""
        return [line.answer for line in self._lines]

    def can_take(self, adapter: AdapterKey | None) -> bool:
        """Return whether the model can answer with this adapter: one of plain LoRA on its layers."""
        names = {name for name, _, _ in self.model.list_linears()}
        return adapter is None or is_plain(self.adapters.get_layers(adapter), names)

    @torch.inference_mode()
    def add(self, answer: Answer, prompt: Sequence[int]) -> None:
        """Take an answer; the next steps read its prompt."""
        cache = self.model.new_cache(len(prompt) + answer.most_tokens)
        line = _Line(answer, list(prompt), cache)
        known = [*self._known, *(_Known(other.answer.adapter, other.ids[: other.read], other.cache) for other in self._lines)]
        same = [(_count_same(one.ids, line.ids[:-1]), one) for one in known if one.adapter == answer.adapter]
        shared, closest = max(same, key=lambda pair: pair[0], default=(0, None))
        if closest is not None and shared >= SHARED_TOKENS:
            whole = -(-shared // PLACES) * PLACES
            cache[:, :, :, :whole] = closest.cache[:, :, :, :whole]
            line.read = shared
        self._lines.append(line)

    def drop(self, gone: Sequence[Answer]) -> None:
        """Let answers go, and remember how they went."""
        for line in [line for line in self._lines if line.answer in gone]:
            self._lines.remove(line)
            self._known.append(_Known(line.answer.adapter, line.ids[: line.read], line.cache))
        while sum(one.cache.nbytes for one in self._known) > KNOWN_BYTES:
            self._known.pop(0)

    @torch.inference_mode()
    def step(self) -> list[tuple[Answer, Tensor]]:
        """Compute a step; return the answers whose next token can be chosen, each with its scores (vocabulary,)."""
        self._seat()
        left = PROMPT_TOKENS
        taken: list[tuple[_Line, Stretch]] = []
        for line in self._lines:
            if line.answer.tokens:
                line.ids.append(line.answer.last)
            ids = line.ids[line.read :]
            if len(ids) > 1:
                ids = ids[:left]
                left -= len(ids)
            if ids:
                ranks = (0, 0) if line.answer.adapter is None else self._ranks[line.answer.adapter]
                whole = line.read + len(ids) == len(line.ids)
                taken.append((line, Stretch(ids, line.read, line.cache, ranks, wanted=whole)))
        scores = iter(self.model.step([stretch for _, stretch in taken]))
        for line, stretch in taken:
            line.read += len(stretch.ids)
        return [(line.answer, next(scores)) for line, stretch in taken if stretch.wanted]

    def _seat(self) -> None:
        """Let the model know the adapters that are in use, and no more."""
        used = list(dict.fromkeys(line.answer.adapter for line in self._lines if line.answer.adapter is not None))
        layers = {key: self.adapters.get_layers(key) for key in used}
        ranks: dict[AdapterKey, tuple[int, int]] = {}
        end = 0
        for key in used:
            rank = len(next(iter(layers[key].values())).lora_A)
            ranks[key] = (end, end + rank)
            end += -(-rank // LANES) * LANES
        whole = -(-end // RANKS) * RANKS
        if all(key in self._ranks for key in used) and self.model.rank == whole:
            return
        self._ranks = ranks
        stack = stack_adapters([(layers[key], ranks[key]) for key in used], whole, self.model.list_linears())
        self.model.set_stack(stack if used else [])


def _count_same(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the length of the common beginning."""
    least = min(len(one), len(other))
    return next((place for place in range(least) if one[place] != other[place]), least)
