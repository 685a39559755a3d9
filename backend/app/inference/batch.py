"""Answers that are written at the same time: one step of the model gives each of them its next token.

An answer joins when its prompt has been read and leaves when it has ended; the others go on. Rows of different length are
aligned at their end: a shorter one has empty places before it, which the mask hides and its positions do not count.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from app.contracts.chat import GenerateCommand, TokenLikelihood
from app.inference.adapters import AdapterKey
from app.inference.detokenise import TextStream
from app.inference.sampling import Sampler
from app.inference.stops import StopGuard

SPARE_TOKENS = 128
"""The cache grows by so many places at once, instead of being copied at each token."""


@dataclass(eq=False)
class Answer:
    """One answer that is being written."""

    command: GenerateCommand
    adapter: AdapterKey | None
    sampler: Sampler
    text: TextStream
    stops: StopGuard
    prompt_tokens: int
    most_tokens: int
    started: float
    """time.monotonic() before its prompt was read"""
    tokens: int = 0
    last: int = 0
    """Token that was said last"""
    likelihoods: list[TokenLikelihood] = field(default_factory=list)
    """Those that no delta has told yet"""

    @property
    def length(self) -> int:
        """Tokens in the cache: the prompt and what was said, but for the last."""
        return self.prompt_tokens + max(0, self.tokens - 1)


class RoomyLayer(DynamicLayer):  # type: ignore[misc]  # transformers has no types
    """Keys and values of one layer, (rows, heads, tokens, width), with spare places for the tokens to come."""

    def __init__(self) -> None:
        super().__init__()
        self.is_initialized = False
        self._rooms: tuple[Tensor, Tensor] | None = None
        self._used = 0

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Append the states of new tokens and return those of all."""
        if not self.is_initialized:
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
        new = key_states.shape[-2]
        if self._rooms is None or self._used + new > self._rooms[0].shape[-2]:
            self._rooms = (self._enlarged(key_states, 0), self._enlarged(value_states, 1))
        for room, states in zip(self._rooms, (key_states, value_states), strict=True):
            room[:, :, self._used : self._used + new] = states
        self._used += new
        self.keys, self.values = (room[:, :, : self._used] for room in self._rooms)
        return self.keys, self.values

    def _enlarged(self, states: Tensor, which: int) -> Tensor:
        rows, heads, new, width = states.shape
        room = states.new_empty(rows, heads, self._used + new + SPARE_TOKENS, width)
        if self._rooms is not None:
            room[:, :, : self._used] = self._rooms[which][:, :, : self._used]
        return room

    def put(self, keys: Tensor, values: Tensor) -> None:
        """Take these states in place of what was there."""
        self._rooms, self._used = None, 0
        self.update(keys, values)


def new_cache(layers: int) -> Cache:
    """Return an empty cache that can be joined with others."""
    cache = DynamicCache()
    cache.layers = [RoomyLayer() for _ in range(layers)]
    return cache


class Batch:
    """The answers that are written now, with one cache for all of them."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.cache: Cache | None = None

    def join(self, answer: Answer, cache: Cache) -> None:
        """Take in an answer whose prompt stands in `cache`."""
        if self.cache is None:
            self.answers, self.cache = [answer], cache
            return
        for mine, other in zip(self.cache.layers, cache.layers, strict=True):
            length = max(mine.keys.shape[-2], other.keys.shape[-2])
            keys, values = (
                torch.cat([_padded(of_mine, length), _padded(of_other, length)])
                for of_mine, of_other in ((mine.keys, other.keys), (mine.values, other.values))
            )
            mine.put(keys, values)
        self.answers.append(answer)

    def leave(self, gone: list[Answer]) -> None:
        """Let answers go, and the places that nobody needs any more."""
        rows = [row for row, answer in enumerate(self.answers) if answer not in gone]
        if len(rows) == len(self.answers):
            return
        self.answers = [self.answers[row] for row in rows]
        if not self.answers:
            self.cache = None
            return
        assert self.cache is not None
        length = max(answer.length for answer in self.answers)
        for layer in self.cache.layers:
            layer.put(layer.keys[rows, :, -length:], layer.values[rows, :, -length:])

    def inputs(self, device: torch.device) -> dict[str, object]:
        """Return the arguments of the model for one token more of each answer."""
        assert self.cache is not None
        lengths = [answer.length for answer in self.answers]
        longest = max(lengths)
        arguments: dict[str, object] = {
            "input_ids": torch.tensor([[answer.last] for answer in self.answers], device=device),
            "past_key_values": self.cache,
            "use_cache": True,
            "logits_to_keep": 1,
        }
        if min(lengths) < longest:
            places = torch.arange(longest + 1)
            empty = torch.tensor([longest - length for length in lengths])
            arguments["attention_mask"] = (places >= empty[:, None]).long().to(device)
            arguments["position_ids"] = torch.tensor([[length] for length in lengths], device=device)
        return arguments


def _padded(states: Tensor, length: int) -> Tensor:
    """Return states with empty places before them, up to `length` tokens."""
    rows, heads, used, width = states.shape
    if used == length:
        return states
    return torch.cat([states.new_zeros(rows, heads, length - used, width), states], -2)
