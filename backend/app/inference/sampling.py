"""Choose the next token from the model's scores."""

from collections import Counter

import torch
from torch import Tensor

from app.contracts.chat import Generation


class Sampler:
    """Greedy at temperature 0; else softmax at that temperature over the smallest set of tokens that holds `top_p`.

    Nucleus sampling as in Holtzman et al. 2020 (arXiv 1904.09751). Draws come from a generator of its own on the
    processor, so that one seed gives one answer, whatever was asked before and on every device. Tokens that were said
    can be made less likely by penalties, which are taken from their scores.
    """

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._random = torch.Generator().manual_seed(generation.seed)
        self._said: Counter[int] = Counter()

    def choose(self, scores: Tensor) -> int:
        """Return a token id; `scores` are the logits of one position, shape (vocabulary,)."""
        asked = self._generation
        if asked.frequency_penalty or asked.presence_penalty:
            scores = self._penalised(scores)
        token = int(scores.argmax()) if asked.temperature == 0 else self._draw(scores)
        self._said[token] += 1
        return token

    def _penalised(self, scores: Tensor) -> Tensor:
        scores = scores.float().clone()
        for token, times in self._said.items():
            scores[token] -= self._generation.presence_penalty + times * self._generation.frequency_penalty
        return scores

    def _draw(self, scores: Tensor) -> int:
        chances = torch.softmax(scores.float().cpu() / self._generation.temperature, -1)
        if self._generation.top_p < 1:
            likeliest, order = _find_likeliest(chances, self._generation.top_p)
            before = likeliest.cumsum(-1) - likeliest
            likeliest[before >= self._generation.top_p] = 0  # the first token always stays
            return int(order[torch.multinomial(likeliest, 1, generator=self._random)])
        return int(torch.multinomial(chances, 1, generator=self._random))


def _find_likeliest(chances: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Return the chances of the likeliest tokens, enough to hold `top_p`, the largest first, and their ids.

    All of a vocabulary take milliseconds to sort, and the few that matter are found in a fraction of one.
    """
    for size in (256, 4096):
        if size < len(chances):
            likeliest, order = chances.topk(size)
            if likeliest.sum() >= top_p:
                return likeliest, order
    return chances.sort(descending=True)
