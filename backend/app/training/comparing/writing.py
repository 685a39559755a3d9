"""Greedy answers of a compiled model, a batch at a time. What all prompts begin with is read once."""

from collections.abc import Callable, Sequence, Set

import torch

from app.training.compiled import PLACES, CompiledModel, Stretch

PROMPT_TOKENS = 256
"""A prompt is read in pieces of so many tokens, and between them it is asked whether to go on."""


@torch.inference_mode()
def write_answers(
    model: CompiledModel,
    prompts: Sequence[Sequence[int]],
    *,
    most_tokens: int,
    stop_ids: Set[int],
    ranks: tuple[int, int],
    check: Callable[[], None],
) -> list[list[int]]:
    """Return what is said to each prompt, without the token that ends it; at most `most_tokens` (at least 1).

    `ranks`: rows of the adapter in the model's stack, equal without one. `check` ends the work by raising.
    """
    shared = _count_shared(prompts)
    caches = [model.new_cache(len(prompt) + most_tokens) for prompt in prompts]
    said: list[list[int]] = [[] for _ in prompts]
    going = []
    for at, (prompt, cache) in enumerate(zip(prompts, caches, strict=True)):
        read = 0 if at == 0 else shared
        whole = -(-read // PLACES) * PLACES
        cache[:, :, :, :whole] = caches[0][:, :, :, :whole]
        while read < len(prompt):
            check()
            piece = prompt[read : read + PROMPT_TOKENS]
            scores = model.step([Stretch(piece, read, cache, ranks, wanted=read + len(piece) == len(prompt))])
            read += len(piece)
        if _say(said[at], int(scores[0].argmax()), most_tokens, stop_ids):
            going.append(at)
    while going:
        check()
        places = [len(prompts[at]) + len(said[at]) - 1 for at in going]
        steps = [Stretch(said[at][-1:], place, caches[at], ranks) for at, place in zip(going, places, strict=True)]
        chosen = model.step(steps).argmax(-1).tolist()
        going = [at for at, token in zip(going, chosen, strict=True) if _say(said[at], token, most_tokens, stop_ids)]
    return said


def _say(said: list[int], token: int, most_tokens: int, stop_ids: Set[int]) -> bool:
    """Add a token; return whether the answer goes on."""
    if token in stop_ids:
        return False
    said.append(token)
    return len(said) < most_tokens


def _count_shared(prompts: Sequence[Sequence[int]]) -> int:
    """Return how many tokens all prompts begin with, the last token of each left out."""
    least = min(len(prompt) for prompt in prompts) - 1
    first = prompts[0]
    return next((at for at in range(least) if any(prompt[at] != first[at] for prompt in prompts)), least)
