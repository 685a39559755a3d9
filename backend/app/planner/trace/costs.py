"""What an operation asks of a device: arithmetic of matrix products by precision, bytes moved, kernels started."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from app.planner.work import SCORE_BLOCK

aten = torch.ops.aten


@dataclass(slots=True)
class Costs:
    """Sums over operations."""

    flops_half: float = 0.0
    flops_full: float = 0.0
    flops_attention: float = 0.0
    bytes_elementwise: float = 0.0
    bytes_gemm: float = 0.0
    bytes_unpacked: float = 0.0
    launches: float = 0.0


_PRODUCTS: dict[Any, tuple[int, int]] = {
    aten.mm.default: (0, 1),
    aten.bmm.default: (0, 1),
    aten.addmm.default: (1, 2),
    aten.addmm_.default: (1, 2),
    aten.baddbmm.default: (1, 2),
    aten.baddbmm_.default: (1, 2),
    aten._grouped_mm.default: (0, 1),
}
"""Operation -> places of its two factors."""
# Products per score: Q K^T and P V forward; five of that size backward, of which the recomputed Q K^T is one.
_ATTENTION: dict[Any, tuple[int, int]] = {
    aten._scaled_dot_product_flash_attention.default: (0, 2),
    aten._scaled_dot_product_efficient_attention.default: (0, 2),
    aten._scaled_dot_product_flash_attention_for_cpu.default: (0, 2),
    aten._scaled_dot_product_cudnn_attention.default: (0, 2),
    aten._scaled_dot_product_flash_attention_backward.default: (1, 5),
    aten._scaled_dot_product_efficient_attention_backward.default: (1, 5),
    aten._scaled_dot_product_flash_attention_for_cpu_backward.default: (1, 5),
    aten._scaled_dot_product_cudnn_attention_backward.default: (1, 5),
}
"""Operation -> place of the queries, matrix products of size (length x length x head size)."""
# Ours: by name, because the engine defines them when it is imported. Places and products as above; the future is left out.
_BLOCKS: dict[str, tuple[int, int]] = {"affinage::attention": (0, 2), "affinage::attention_backward": (0, 5)}
_FREE = {
    aten.empty.memory_format,
    aten.empty_like.default,
    aten.empty_strided.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
    aten._unsafe_view.default,
    aten.detach.default,
    aten.lift_fresh.default,
}
_views: dict[Any, bool] = {}


def count_costs(costs: Costs, func: Any, args: Any, out: Any) -> None:
    """Add what `func` did to `costs`."""
    if func in _FREE or _is_view(func):
        return
    costs.launches += 1
    factors = _PRODUCTS.get(func)
    if factors is not None:
        left, right = args[factors[0]], args[factors[1]]
        flops = 2.0 * left.numel() * right.shape[-1]
        if left.element_size() == 2:
            costs.flops_half += flops
        else:
            costs.flops_full += flops
        if left.dim() == 3 and right.dim() == 3:
            costs.flops_attention += flops
        costs.bytes_gemm += sum(map(_count_bytes, (left, right, out)))
        return
    blocks = _BLOCKS.get(func._schema.name)
    attention = blocks or _ATTENTION.get(func)
    if attention is not None:
        query: Tensor = args[attention[0]]
        key: Tensor = args[attention[0] + 1]
        batch, heads, length, width = query.shape
        scores = length * (length + SCORE_BLOCK) / 2 if blocks else length * key.shape[2]
        flops = 2.0 * attention[1] * batch * heads * scores * width
        costs.flops_attention += flops
        if query.element_size() == 2:
            costs.flops_half += flops
        else:
            costs.flops_full += flops
        costs.bytes_gemm += sum(_count_bytes(tensor) for tensor in _flatten((args, out)))
        return
    costs.bytes_elementwise += sum(_count_bytes(tensor) for tensor in _flatten((args, out)))


def _is_view(func: Any) -> bool:
    """Whether the result shares memory with an argument that is not written to."""
    known = _views.get(func)
    if known is None:
        returns = func._schema.returns
        aliases = [result.alias_info for result in returns]
        known = bool(aliases) and all(alias is not None and not alias.is_write for alias in aliases)
        _views[func] = known
    return known


def _flatten(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _flatten(item)


def _count_bytes(tensor: Tensor) -> int:
    """Bytes that reading or writing the tensor touches; an expanded one is smaller than it looks."""
    size = tensor.numel() * tensor.element_size()
    return min(size, tensor.untyped_storage().nbytes())
