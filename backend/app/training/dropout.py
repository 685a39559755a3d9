"""The adapter's dropout, with masks that do not depend on who draws first.

Micro-batches side by side (lanes.py) would share torch's one generator. So each gets a seed of its own before any of them
begins, and a layer's mask follows from that seed and the layer's number alone: activations that are recomputed are dropped
as they were the first time, with no state to put back. Anywhere else masks come from torch's generator of the device.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

_drawing = threading.local()


def draw_seeds(count: int) -> list[int]:
    """Return seeds for so many micro-batches, out of torch's global generator: its state is saved with a run."""
    seeds: list[int] = torch.randint(1 << 62, (count,)).tolist()
    return seeds


@contextmanager
def masks_from(seed: int) -> Iterator[None]:
    """Draw masks from `seed` on this thread inside the block, which holds the backward pass as well."""
    _drawing.seed = seed
    try:
        yield
    finally:
        _drawing.seed = None


def drop(x: Tensor, share: float, layer: int) -> Tensor:
    """Return `x` with about `share` of its numbers zero and the others divided by 1 - share; `layer` is the layer's number."""
    seed: int | None = getattr(_drawing, "seed", None)
    if seed is None:
        return F.dropout(x, share)
    generator = torch.Generator().manual_seed(seed + layer)
    mask = torch.empty_like(x).bernoulli_(1 - share, generator=generator).div_(1 - share)
    return x * mask
