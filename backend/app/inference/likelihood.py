"""How likely the model found a token, for those who ask."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from app.contracts.chat import Likelihood, TokenLikelihood


def find_likelihood(scores: Tensor, token: int, top: int, decode: Callable[[Sequence[int], bool], str]) -> TokenLikelihood:
    """Return the log-probability of `token` under `scores`, (vocabulary,), and those of the `top` likeliest tokens.

    They are the model's own: temperature, nucleus and penalties do not count.
    """
    logprobs = torch.log_softmax(scores.float(), -1)
    likeliest = torch.topk(logprobs, top) if top else None
    places = [] if likeliest is None else list(zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True))
    return TokenLikelihood(
        text=decode([token], False),
        logprob=float(logprobs[token]),
        top=[Likelihood(text=decode([other], False), logprob=value) for other, value in places],
    )
