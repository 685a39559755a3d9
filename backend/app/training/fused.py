"""The two halves of a decoder block, x + attention(norm(x)) and x + mlp(norm(x)), as few autograd functions with the
adapters inside.

On a processor a step is matrix products plus many passes over activations, each of which costs a wait for the other
threads. So: few passes (primitives.py), layers that read the same input (q, k, v; gate, up) as one product with their adapters
(stacked.py), and the residual's gradient added where the norm's is written. What is cheap to make again is not kept: what a norm
or an activation returns, and the heads of attention as tokens.

Shapes: T tokens (rows times length, flattened, or packed), H width. Nothing looks at a value, so all runs on `meta`.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from app.training import primitives
from app.training.batching import Layout
from app.training.stacked import Narrowing, Widening

Activation = Literal["gated", "gelu"]
_FORWARD = {"gated": primitives.gated, "gelu": primitives.gelu}
_BACKWARD = {"gated": primitives.gated_backward, "gelu": primitives.gelu_backward}


@dataclass(frozen=True)
class Norm:
    """A frozen RMS norm, or with a bias a layer norm."""

    weight: Tensor
    bias: Tensor | None
    eps: float


class NormedProducts(torch.autograd.Function):
    """A norm, then all products of `layers`: (T, H) -> (T, N), and x itself for the residual."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: Norm, layers: Widening, *_parameters: Tensor) -> tuple[Tensor, Tensor]:
        normed, moments = primitives.norm(x, norm.weight, norm.bias, norm.eps, layers.rank)
        y, low = layers.multiply(normed)
        ctx.save_for_backward(x, moments, low)
        ctx.norm, ctx.layers = norm, layers
        return y, x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        x, moments, low = ctx.saved_tensors
        gradients: list[Tensor] = []
        pulled, grad_low = ctx.layers.pull(grads[0], onwards=ctx.needs_input_grad[0])
        if ctx.layers.rank:
            gradients = ctx.layers.pull_parameters(grads[0], grad_low, _normed(x, ctx.norm), low)
        if pulled is None:
            return None, None, None, *gradients
        grad_x = primitives.norm_backward(pulled, x, ctx.norm.weight, moments, grads[1].contiguous())
        return grad_x, None, None, *gradients


def _normed(x: Tensor, norm: Norm) -> Tensor:
    return primitives.norm(x, norm.weight, norm.bias, norm.eps, 0)[0]


class Heads(torch.autograd.Function):
    """Queries, keys and values (rows, heads, length, width) out of (T, N), queries and keys rotated when `turn` is given."""

    @staticmethod
    def forward(  # noqa: PLR0917  autograd passes them by place
        ctx: Any,
        y: Tensor,
        rows: int,
        counts: tuple[int, int, int],
        layout: Layout | None,
        cos: Tensor | None,
        sin: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """`counts`: heads of queries, heads of keys, width; `cos`, `sin` (1, T when packed, else length, width)."""
        turn = None if cos is None or sin is None else (cos, sin)
        ctx.layout, ctx.counts, ctx.turn, ctx.shape = layout, counts, turn, y.shape
        queries, keys, width = counts
        return tuple(
            primitives.lay_out(part, rows, heads, width, layout, angle)
            for part, heads, angle in zip(
                _split(y, counts), (queries, keys, keys), (turn, turn, None), strict=True
            )
        )  # fmt: skip

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = grads[0].new_empty(ctx.shape)
        for pulled, part, angle in zip(grads, _split(grad, ctx.counts), (ctx.turn, ctx.turn, None), strict=True):
            primitives.lay_out_backward(pulled.contiguous(), part, ctx.layout, angle)
        return grad, None, None, None, None, None


def _split(y: Tensor, counts: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    queries, keys, width = counts
    first, second, third = torch.split(y, [queries * width, keys * width, keys * width], 1)
    return first, second, third


class AddedHeads(torch.autograd.Function):
    """residual + layer(heads): (T, H) and (rows, heads, length, width) -> (T, H)."""

    @staticmethod
    def forward(
        ctx: Any, residual: Tensor, heads: Tensor, layout: Layout | None, layer: Narrowing, *_parameters: Tensor
    ) -> Tensor:
        heads = heads.contiguous()
        x = primitives.gather(heads, len(residual), layout)
        y, low = layer.add(residual, x)
        ctx.save_for_backward(heads, low)
        ctx.layout, ctx.layer = layout, layer
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        heads, low = ctx.saved_tensors
        grad = grads[0].contiguous()
        grad_x, grad_low = ctx.layer.pull(grad)
        gradients: list[Tensor] = []
        if ctx.layer.rank:
            x = primitives.gather(heads, len(grad), ctx.layout)
            gradients = ctx.layer.pull_parameters(grad, grad_low, x, low)
        return grad, primitives.gather_backward(grad_x, heads.shape, ctx.layout), None, None, *gradients


class Mlp(torch.autograd.Function):
    """x + down(activation(up(norm(x)))): (T, H) -> (T, H)."""

    @staticmethod
    def forward(  # noqa: PLR0917  autograd passes them by place
        ctx: Any, x: Tensor, norm: Norm, up: Widening, kind: Activation, down: Narrowing, *_parameters: Tensor
    ) -> Tensor:
        normed, moments = primitives.norm(x, norm.weight, norm.bias, norm.eps, up.rank)
        y, up_low = up.multiply(normed)
        del normed
        out, down_low = down.add(x, _FORWARD[kind](y))
        ctx.save_for_backward(x, moments, y, up_low, down_low)
        ctx.norm, ctx.up, ctx.kind, ctx.down = norm, up, kind, down
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        x, moments, y, up_low, down_low = ctx.saved_tensors
        grad = grads[0].contiguous()
        grad_active, grad_low = ctx.down.pull(grad)
        of_down: list[Tensor] = []
        of_up: list[Tensor] = []
        if ctx.down.rank:
            of_down = ctx.down.pull_parameters(grad, grad_low, _FORWARD[ctx.kind](y), down_low)
        grad_y = _BACKWARD[ctx.kind](grad_active, y)
        del grad_active
        pulled, grad_low = ctx.up.pull(grad_y, onwards=ctx.needs_input_grad[0])
        if ctx.up.rank:
            of_up = ctx.up.pull_parameters(grad_y, grad_low, _normed(x, ctx.norm), up_low)
        del grad_y
        grad_x = None
        if pulled is not None:
            grad_x = primitives.norm_backward(pulled, x, ctx.norm.weight, moments, grad)
        return grad_x, None, None, None, None, *of_up, *of_down
