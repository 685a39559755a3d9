"""Causal attention on the processor: one kernel for bfloat16 where the processor has wide vectors, else plain batched products.

PyTorch's fused attention has a slow backward pass on processors: 3 to 5 times slower than these products up to 512
tokens (measured on two cores with AVX-512 BF16). Beyond that the (length x length) matrices grow too large and the
fused one is used. The kernel (native/attention.c) keeps no such matrix, for any length. Rows are padded on the right
and labels skip the padding, so causality is the only mask needed: a name that transformers has no mask function for
gets none.

All else in a model works on each token alone. So a packed micro-batch (batching.py) is a batch of one long row to the
model, and only here its tokens are laid out as rows.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, masking_utils

from app.training import card_attention, primitives
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
        weights = primitives.causal_softmax(torch.bmm(q, k.transpose(1, 2)), groups, scale)
        ctx.save_for_backward(q, k, v, weights)
        ctx.scale, ctx.groups, ctx.query_shape, ctx.key_shape = scale, groups, query.shape, key.shape
        return torch.bmm(weights, v).view(query.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, weights = ctx.saved_tensors
        grad = grads[0].reshape(q.shape)
        grad_v = torch.bmm(weights.transpose(1, 2), grad)
        grad_weights = torch.bmm(grad, v.transpose(1, 2))
        grad_scores = primitives.causal_softmax_backward(grad_weights, weights, ctx.groups, ctx.scale)
        grad_q = torch.bmm(grad_scores, k)
        grad_k = torch.bmm(grad_scores.transpose(1, 2), q)
        return grad_q.view(ctx.query_shape), grad_k.view(ctx.key_shape), grad_v.view(ctx.key_shape), None


class _Blocks(torch.autograd.Function):
    """The same in blocks of queries and keys, the scores computed again for the gradients."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        out, logsums = primitives.attention(query, key, value, scale)
        ctx.save_for_backward(query, key, value, out, logsums)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value, out, logsums = ctx.saved_tensors
        found = primitives.attention_backward(grads[0].contiguous(), query, key, value, out, logsums, ctx.scale)
        return *found, None


class _LaidOut(torch.autograd.Function):
    """The heads of packed tokens at their places in rows: (tokens, heads * width) -> (rows, heads, length, width)."""

    @staticmethod
    def forward(ctx: Any, packed: Tensor, layout: Layout, heads: int) -> Tensor:
        ctx.layout, ctx.shape = layout, packed.shape
        return primitives.lay_out(packed, layout.rows, heads, packed.shape[1] // heads, layout, None)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        packed = grads[0].new_empty(ctx.shape)
        primitives.lay_out_backward(grads[0].contiguous(), packed, ctx.layout, None)
        return packed, None, None


class _Gathered(torch.autograd.Function):
    """The reverse: (rows, heads, length, width) -> (tokens, heads * width); a shared token's from the first row."""

    @staticmethod
    def forward(ctx: Any, heads: Tensor, layout: Layout, tokens: int) -> Tensor:
        ctx.layout, ctx.shape = layout, heads.shape
        return primitives.gather(heads.contiguous(), tokens, layout)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return primitives.gather_backward(grads[0].contiguous(), ctx.shape, ctx.layout), None, None


def attend(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Attend causally: (rows, heads, length, width) and fewer heads of keys and values -> the shape of the queries."""
    if primitives.takes_attention_kernel(query):
        blocks: Tensor = _Blocks.apply(query, key, value, scale)  # type: ignore[no-untyped-call]
        return blocks
    if query.shape[2] <= LONGEST:
        out: Tensor = _Products.apply(query, key, value, scale)  # type: ignore[no-untyped-call]
        return out
    return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=True)


def causal_attention(  # noqa: PLR0917  transformers' interface
    module: nn.Module,  # noqa: ARG001
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001  always None: see the module's docstring
    scaling: float | None = None,
    layout: Layout | None = None,
    **__: Any,
) -> tuple[Tensor, None]:
    """Attend causally, with transformers' signature. Tensors are (batch, heads, length, width); no cache, no dropout.

    With a `layout` the batch is 1 and the length is that of all packed tokens.
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if layout is None:
        return attend(query, key, value, scale).transpose(1, 2).contiguous(), None
    _, heads, tokens, width = query.shape
    rows = [
        _LaidOut.apply(part.transpose(1, 2).reshape(tokens, -1), layout, part.shape[1])  # type: ignore[no-untyped-call]
        for part in (query, key, value)
    ]
    packed: Tensor = _Gathered.apply(attend(rows[0], rows[1], rows[2], scale), layout, tokens)  # type: ignore[no-untyped-call]
    return packed.view(1, tokens, heads, width), None


def can_unpack(model: nn.Module) -> bool:
    """Return whether a model was loaded with an attention of ours, and so takes packed micro-batches."""
    return str(model.config._attn_implementation) in (NAME, card_attention.NAME)  # type: ignore[union-attr]


def packs_always(model: nn.Module) -> bool:
    """Return whether all its micro-batches of several rows are packed: on a processor, where the planner counts on it."""
    return bool(model.config._attn_implementation == NAME)  # type: ignore[union-attr]


def choose_attention(config: Any, device_type: str) -> str | None:
    """Return the name of the attention to load a model with: ours for such a device where it is exact, else None.

    None lets transformers choose: PyTorch's fused attention, or the model's own where it has nothing else (Bloom, Gemma 2).
    """
    sliding = bool(getattr(config, "use_sliding_window", True) and getattr(config, "sliding_window", None))
    if sliding or config.model_type not in _PLAIN_CAUSAL:
        return None
    if device_type == "cuda":
        AttentionInterface.register(card_attention.NAME, card_attention.card_attention)
        return card_attention.NAME
    AttentionInterface.register(NAME, causal_attention)
    return NAME
