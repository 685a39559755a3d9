"""Causal attention on a card: each row of a packed micro-batch alone, by the fused kernel that the card has.

From compute capability 8 on, in 16 bits, that is FlashAttention over rows of different lengths (`torch.nn.attention.varlen`;
Dao 2023, arXiv 2307.08691), without any padding. Elsewhere rows are padded, for attention alone, and go through PyTorch's
memory-efficient kernel, where heads share no keys: they are repeated. No mask is ever made. On `meta`, where the planner
traces, rows are padded: what that takes is the upper bound of both.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention.varlen import varlen_attn

from app.training.batching import Layout, Spread

NAME = "affinage_card"
FLASH_WIDTH = 256
"""Largest head that FlashAttention takes."""


class _Spreading(torch.autograd.Function):
    """Packed tokens (tokens, N) at their places in rows: (places, N)."""

    @staticmethod
    def forward(ctx: Any, packed: Tensor, spread: Spread) -> Tensor:
        ctx.spread, ctx.tokens = spread, len(packed)
        return packed.index_select(0, spread.sources)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        spread: Spread = ctx.spread
        grad = grads[0].new_zeros(ctx.tokens, grads[0].shape[1])
        grad[: len(spread.places)] = grads[0].index_select(0, spread.places)
        rows, shared = spread.shared_places.shape
        if shared:
            parts = grads[0].index_select(0, spread.shared_places.flatten()).view(rows, shared, -1)
            grad[:shared] = parts.sum(0)
        return grad, None


class _Collecting(torch.autograd.Function):
    """The reverse: (places, N) -> (tokens, N); a shared token's from the first row, zero behind the last token."""

    @staticmethod
    def forward(ctx: Any, spread_out: Tensor, spread: Spread, tokens: int) -> Tensor:
        ctx.spread, ctx.count = spread, len(spread_out)
        packed = spread_out.new_zeros(tokens, spread_out.shape[1])
        packed[: len(spread.places)] = spread_out.index_select(0, spread.places)
        return packed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        spread: Spread = ctx.spread
        grad = grads[0].new_zeros(ctx.count, grads[0].shape[1])
        return grad.index_copy_(0, spread.places, grads[0][: len(spread.places)]), None, None


def takes_flash(dtype: torch.dtype, width: int, capability: tuple[int, int]) -> bool:
    """Return whether FlashAttention takes heads of this type and width on a card of this compute capability."""
    return dtype in (torch.float16, torch.bfloat16) and width <= FLASH_WIDTH and capability >= (8, 0)


def has_flash(query: Tensor) -> bool:
    """Return whether FlashAttention takes queries like these, (..., width), where they are."""
    if query.device.type != "cuda":
        return False
    return takes_flash(query.dtype, query.shape[-1], torch.cuda.get_device_capability(query.device))


def takes_ragged(model: nn.Module, device: torch.device) -> bool:
    """Return whether the attention of `model`, which is this one, takes rows without padding on `device`."""
    config: Any = model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    dtype: torch.dtype = model.get_input_embeddings().weight.dtype  # type: ignore[operator]
    return device.type == "cuda" and takes_flash(dtype, width, torch.cuda.get_device_capability(device))


def attend_padded(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Attend causally: (rows, heads, length, width) and maybe fewer heads of keys and values -> the shape of the queries."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1 and query.device.type != "meta" and not has_flash(query):
        # With shared keys PyTorch would take its plain way, which keeps all scores.
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    shared = key.shape[1] != query.shape[1]
    return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=shared)


def attend_ragged(query: Tensor, key: Tensor, value: Tensor, scale: float, spread: Spread) -> Tensor:
    """Attend causally within each row: (tokens of all rows, heads, width) -> the shape of the queries."""
    assert spread.starts is not None, "only rows without padding come here"
    found = varlen_attn(
        query,
        key,
        value,
        spread.starts,
        spread.starts,
        spread.longest,
        spread.longest,
        scale=scale,
        window_size=(-1, 0),
        enable_gqa=key.shape[1] != query.shape[1],
    )
    assert isinstance(found, Tensor), "nothing else was asked for"
    return found


def card_attention(  # noqa: PLR0917  transformers' interface
    module: nn.Module,  # noqa: ARG001
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001  always None, as in attention.py
    scaling: float | None = None,
    layout: Layout | None = None,
    **__: Any,
) -> tuple[Tensor, None]:
    """Attend causally, with transformers' signature. Tensors are (batch, heads, length, width); no cache, no dropout.

    With a `layout` the batch is 1 and the length is that of all packed tokens.
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if layout is None:
        return attend_padded(query, key, value, scale).transpose(1, 2).contiguous(), None
    _, heads, tokens, width = query.shape
    ragged = layout.ragged if has_flash(query) else None
    spread = ragged or layout.padded
    rows = [_spread(part.transpose(1, 2).reshape(tokens, -1), spread) for part in (query, key, value)]
    if ragged is not None:
        parts = [row.view(len(row), -1, width) for row in rows]
        found = attend_ragged(parts[0], parts[1], parts[2], scale, ragged).reshape(len(rows[0]), heads * width)
    else:
        parts = [row.view(layout.rows, layout.length, -1, width).transpose(1, 2) for row in rows]
        found = attend_padded(parts[0], parts[1], parts[2], scale).transpose(1, 2).reshape(-1, heads * width)
    return _collect(found, spread, tokens).view(1, tokens, heads, width), None


def _is_straight(spread: Spread) -> bool:
    """Return whether packed tokens already lie as their rows: nothing is shared, nothing padded but the end."""
    return spread.starts is not None and not spread.shared_places.shape[1]


def _spread(packed: Tensor, spread: Spread) -> Tensor:
    if _is_straight(spread):
        return packed[: len(spread.sources)]
    spread_out: Tensor = _Spreading.apply(packed, spread)  # type: ignore[no-untyped-call]
    return spread_out


def _collect(found: Tensor, spread: Spread, tokens: int) -> Tensor:
    if _is_straight(spread):
        return F.pad(found, (0, 0, 0, tokens - len(found)))
    packed: Tensor = _Collecting.apply(found, spread, tokens)  # type: ignore[no-untyped-call]
    return packed
