"""Models that are only timed: built without the seconds that drawing millions of random numbers takes."""

from collections.abc import Callable
from typing import Any

import torch

DRAWN = 1 << 18
"""Numbers that are drawn; larger matrices repeat them. The speed of a product does not depend on its numbers."""


def build_filled(build: Callable[[], Any]) -> Any:
    """Return the model that `build` makes, with small numbers as weights: neither NaN nor denormals of earlier memory."""
    from transformers.initialization import no_init_weights

    with no_init_weights():
        model = build()
    drawn = torch.empty(DRAWN).uniform_(-0.02, 0.02)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.fill_(1.0)
                continue
            flat = parameter.view(-1)
            for start in range(0, len(flat), DRAWN):
                flat[start : start + DRAWN] = drawn[: len(flat) - start].to(parameter)
    return model
