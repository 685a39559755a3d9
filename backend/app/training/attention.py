"""Causal attention on the processor as plain batched matrix products.

PyTorch's fused attention has a slow backward pass on processors: 3 to 5 times slower than these products up to 512
tokens (measured on two cores with AVX-512 BF16). Beyond that the (length x length) matrices grow too large and the
fused one is used. Rows are padded on the right and labels skip the padding, so causality is the only mask needed:
a name that transformers has no mask function for gets none.

All else in a model works on each token alone. So a packed micro-batch (batching.py) is a batch of one long row to the
model, and only here its tokens are laid out as rows.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, masking_utils

from app.training.batching import Layout

NAME = "affinage_products"
LONGEST = 512
"""Tokens up to which the products win."""
_PLAIN_CAUSAL = frozenset({"gpt2", "llama", "mistral", "phi", "qwen2", "qwen3", "smollm3"})
"""Model types whose attention is scaled, causal and nothing else (no soft-capping, no sinks, no position bias)."""


def _find_no_packing(position_ids: Tensor) -> None:
    """Our rows are never packed into one."""


# transformers looks for packed rows in the values of the positions: a wait for the device in each forward pass, and
# impossible on `meta`, where the planner traces.
masking_utils.find_packed_sequence_indices = _find_no_packing


@lru_cache(maxsize=64)
def _mask(length: int, groups: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return (groups * length, length): 0 where a query may look, the smallest number elsewhere."""
    return torch.full((length, length), torch.finfo(dtype).min, dtype=dtype, device=device).triu_(1).repeat(groups, 1)


def forget_masks() -> None:
    """Drop the masks that are kept from call to call."""
    _mask.cache_clear()


class _Products(torch.autograd.Function):
    """softmax(scale * Q K^T + mask) V; query heads that share a key head are stacked along the length."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        batch, heads, length, width = query.shape
        key_heads = key.shape[1]
        groups = heads // key_heads
        q = query.reshape(batch * key_heads, groups * length, width)
        k = key.reshape(batch * key_heads, length, width)
        v = value.reshape(batch * key_heads, length, width)
        scores = torch.baddbmm(_mask(length, groups, q.dtype, q.device), q, k.transpose(1, 2), alpha=scale)
        weights = torch.softmax(scores, -1)
        ctx.save_for_backward(q, k, v, weights)
        ctx.scale, ctx.query_shape, ctx.key_shape = scale, query.shape, key.shape
        return torch.bmm(weights, v).view(query.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, weights = ctx.saved_tensors
        grad = grads[0].reshape(q.shape)
        grad_v = torch.bmm(weights.transpose(1, 2), grad)
        grad_weights = torch.bmm(grad, v.transpose(1, 2))
        grad_scores = torch.ops.aten._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
        grad_q = torch.bmm(grad_scores, k).mul_(ctx.scale)
        grad_k = torch.bmm(grad_scores.transpose(1, 2), q).mul_(ctx.scale)
        return grad_q.view(ctx.query_shape), grad_k.view(ctx.key_shape), grad_v.view(ctx.key_shape), None


class Unpacked(torch.autograd.Function):
    """The tokens of a packed micro-batch at their places in rows: (tokens, at least C) -> (rows * length, C)."""

    @staticmethod
    def forward(ctx: Any, packed: Tensor, layout: Layout, columns: int) -> Tensor:
        """`columns` is C: what stands to the right of it is not taken along, and its gradient is left empty."""
        ctx.layout, ctx.shape = layout, packed.shape
        return packed[:, :columns].index_select(0, layout.sources)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        layout, grad = ctx.layout, grads[0]
        columns = grad.shape[1]
        packed = grad.new_empty(ctx.shape)
        packed[: layout.used, :columns] = grad.index_select(0, layout.places)
        packed[layout.used :].zero_()
        if layout.shared:
            in_rows = grad.view(layout.rows, layout.length, columns)
            packed[: layout.shared, :columns] = in_rows[:, : layout.shared].sum(0)
        return packed, None, None


class Packed(torch.autograd.Function):
    """The reverse of Unpacked: (rows * length, C) -> (tokens, C); a shared token's from the first row."""

    @staticmethod
    def forward(ctx: Any, unpacked: Tensor, layout: Layout, tokens: int) -> Tensor:
        ctx.layout = layout
        packed = unpacked.new_empty(tokens, unpacked.shape[1])
        torch.index_select(unpacked, 0, layout.places, out=packed[: layout.used])
        packed[layout.used :].zero_()
        return packed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        layout, grad = ctx.layout, grads[0]
        unpacked = grad.new_zeros(layout.rows * layout.length, grad.shape[1])
        unpacked.index_copy_(0, layout.places, grad[: layout.used])
        return unpacked, None, None


def unpack_heads(x: Tensor, layout: Layout) -> Tensor:
    """Return (1, heads, tokens, width) as (rows, heads, length, width)."""
    _, heads, tokens, width = x.shape
    rows: Tensor = Unpacked.apply(x.transpose(1, 2).reshape(tokens, heads * width), layout, heads * width)  # type: ignore[no-untyped-call]
    return rows.view(layout.rows, layout.length, heads, width).transpose(1, 2)


def causal_attention(  # noqa: PLR0917  transformers' interface
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001  always None: see the module's docstring
    scaling: float | None = None,
    layout: Layout | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend causally, with transformers' signature. Tensors are (batch, heads, length, width); no cache, no dropout.

    With a `layout` the batch is 1 and the length is that of all packed tokens.
    """
    if layout is not None:
        tokens = query.shape[2]
        query, key, value = (unpack_heads(part, layout) for part in (query, key, value))
        attended = causal_attention(module, query, key, value, None, scaling)[0].flatten(0, 1)
        packed: Tensor = Packed.apply(attended.flatten(1), layout, tokens)  # type: ignore[no-untyped-call]
        return packed.view(1, tokens, *attended.shape[1:]), None
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    out: Tensor
    if query.shape[2] <= LONGEST:
        out = _Products.apply(query, key, value, scale)  # type: ignore[no-untyped-call]
    else:
        out = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=True)
    return out.transpose(1, 2).contiguous(), None


def can_unpack(model: nn.Module) -> bool:
    """Return whether a model was loaded with this attention, and so takes packed micro-batches."""
    return bool(model.config._attn_implementation == NAME)  # type: ignore[union-attr]


def choose_attention(config: Any, device_type: str) -> str | None:
    """Return the name of the attention to load a model with: ours on processors where it is exact, else None.

    None lets transformers choose: PyTorch's fused attention, or the model's own where it has nothing else (Bloom, Gemma 2).
    """
    sliding = bool(getattr(config, "use_sliding_window", True) and getattr(config, "sliding_window", None))
    if device_type != "cpu" or sliding or config.model_type not in _PLAIN_CAUSAL:
        return None
    AttentionInterface.register(NAME, causal_attention)
    return NAME
