"""What loading a 4-bit model leaves in CUDA's allocator: holes that the training step then finds.

transformers 5 first takes one block as large as the packed model and gives it back. Four threads then copy 16-bit
matrices to the card, in the natural order of their names, ahead of the main thread, which packs them one by one and drops
the copy. PEFT at last widens everything that is not packed to 32 bits, tensor by tensor, and empties the cache: segments
that are in use stay with their holes. How far the threads run ahead is a race, so several distances are replayed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import nn

from app.planner.trace.cuda_allocator import CachingAllocator
from app.planner.trace.kernels import PackedLinear

AHEAD = (4, 8, 16, 32, 64)
"""Matrices that are on the card in 16 bits before they are packed."""


@dataclass(frozen=True)
class LoadedTensor:
    """One tensor of the checkpoint."""

    name: str
    elements: int
    packed_sizes: tuple[int, ...]
    """Bytes of what it becomes in 4 bits; empty for one that is widened instead."""


def list_tensors(model: nn.Module) -> list[LoadedTensor]:
    """Return the checkpoint's tensors in the order in which they are loaded."""
    found = []
    packed = set()
    for name, module in model.named_modules():
        if isinstance(module, PackedLinear):
            kept = [tensor for tensor in module.list_tensors() if tensor is not module.bias]
            sizes = tuple(tensor.untyped_storage().nbytes() for tensor in kept)
            found.append(LoadedTensor(f"{name}.weight", module.in_features * module.out_features, sizes))
            packed.add(f"{name}.weight")
    for name, parameter in model.named_parameters():
        if name not in packed:
            found.append(LoadedTensor(name, parameter.numel(), ()))
    return sorted(found, key=lambda tensor: _natural(tensor.name))


def replay_loading(allocator: CachingAllocator, tensors: list[LoadedTensor], ahead: int) -> None:
    """Leave the allocator as loading does, the weights in it."""
    allocator.take("warm-up", sum(2 * t.elements if not t.packed_sizes else t.elements // 2 for t in tensors))
    allocator.give_back("warm-up")
    copied = 0
    for index, tensor in enumerate(tensors):
        while copied < min(len(tensors), index + ahead):
            allocator.take(("copy", copied), 2 * tensors[copied].elements)
            copied += 1
        for part, size in enumerate(tensor.packed_sizes):
            allocator.take(("packed", index, part), size)
        if tensor.packed_sizes:
            allocator.give_back(("copy", index))
    for index, tensor in enumerate(tensors):
        if not tensor.packed_sizes:
            allocator.take(("wide", index), 4 * tensor.elements)
            allocator.give_back(("copy", index))
    allocator.empty_cache()


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
