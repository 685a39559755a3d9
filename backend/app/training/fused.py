"""Four autograd functions that a decoder block of the Llama kind consists of, with the adapters inside.

On a processor a step is matrix products plus many passes over activations, each of which costs a wait for the other
threads, and element-wise work in bfloat16 is three times slower than in fp32 (two cores with AMX). So: few passes, most
of them in fp32; layers that read the same input (q, k, v; gate, up) are one product, whose last columns are the adapters'
rank-sized products; their gradients come back in one array, so that the gradient of the input is one product too.

Shapes: T tokens (rows times length, flattened), H width, N outputs of all the layers together, R the sum of their ranks.
Only what the formula needs is kept for the backward pass; nothing looks at a value, so all runs on `meta`.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from app.training.lora import LoraLayer
from app.training.memory import release_mapped
from app.training.precision import widen


class SharedInput:
    """Linear layers that read the same input, as one matrix: their weights, then A of each adapter.

    The layers' weights become views of the matrix: nothing is held twice.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        frozen = [cast("nn.Linear", layer.wrapped if isinstance(layer, LoraLayer) else layer) for layer in layers]
        adapted = [(place, layer) for place, layer in enumerate(layers) if isinstance(layer, LoraLayer)]
        self.adapters = [layer for _, layer in adapted]
        sizes = [linear.out_features for linear in frozen]
        starts = [sum(sizes[:place]) for place in range(len(sizes))]
        self.outputs = sum(sizes)
        self.sizes = sizes
        ranks = [layer.lora_A.shape[0] for layer in self.adapters]
        lows = [sum(ranks[:place]) for place in range(len(ranks))]
        self.rank = sum(ranks)
        self.blocks = [
            (slice(starts[place], starts[place] + sizes[place]), slice(low, low + rank))
            for (place, _), low, rank in zip(adapted, lows, ranks, strict=True)
        ]
        """Where each adapter's B lies in (N, R)."""
        with torch.no_grad():
            weights = [linear.weight for linear in frozen]
            self.matrix = weights[0].new_empty(self.outputs + self.rank, weights[0].shape[1])
            self.b = weights[0].new_zeros(self.outputs, self.rank)
            for linear, start, size in zip(frozen, starts, sizes, strict=True):
                rows = self.matrix[start : start + size]
                rows.copy_(linear.weight)
                linear.weight = nn.Parameter(rows, requires_grad=False)
            release_mapped(weights)
            self.bias = None
            if any(linear.bias is not None for linear in frozen):
                self.bias = weights[0].new_zeros(self.outputs + self.rank)
                for linear, start, size in zip(frozen, starts, sizes, strict=True):
                    if linear.bias is not None:
                        self.bias[start : start + size] = linear.bias

    def parameters(self) -> list[Tensor]:
        """Return A and B of each adapter."""
        return [tensor for layer in self.adapters for tensor in (layer.lora_A, layer.lora_B)]

    @torch.no_grad()
    def refresh(self) -> None:
        """Cast the adapters into the matrices; B carries its scale.

        On each call: the fused AdamW of torch 2.13 changes parameters without counting up their version.
        """
        for layer, (rows, columns) in zip(self.adapters, self.blocks, strict=True):
            self.matrix[self.outputs + columns.start : self.outputs + columns.stop].copy_(layer.lora_A)
            torch.mul(layer.lora_B, layer.scale, out=self.b[rows, columns])

    def split_gradients(self, grad_a: Tensor, grad_b: Tensor) -> list[Tensor]:
        """Return the gradients of `parameters()` from (R, H) and (N, R)."""
        gradients = []
        for layer, (rows, columns) in zip(self.adapters, self.blocks, strict=True):
            kind = layer.lora_A.dtype
            gradients += [grad_a[columns].to(kind), grad_b[rows, columns].to(kind).mul_(layer.scale)]
        return gradients


class NormedProducts(torch.autograd.Function):
    """RMS norm, then all products of a SharedInput: (T, H) -> (T, N + R).

    The last R columns are the adapters' inner products, for this function's own use. Its gradient comes in an array of
    the same width whose last columns are still empty.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, shared: SharedInput, *_parameters: Tensor) -> Tensor:
        full = widen(x)
        rstd = torch.linalg.vector_norm(full, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        scaled = full * rstd if full is x else full.mul_(rstd)
        normed = scaled.mul_(widen(weight)).to(x.dtype)
        shared.refresh()
        y = F.linear(normed, shared.matrix, shared.bias)
        if shared.rank:
            y[:, : shared.outputs].addmm_(y[:, shared.outputs :], shared.b.t())
        ctx.save_for_backward(x, rstd, normed, y[:, shared.outputs :].clone(), weight)
        ctx.shared = shared
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        x, rstd, normed, low, weight = ctx.saved_tensors
        shared: SharedInput = ctx.shared
        grad = grads[0]
        gradients: list[Tensor] = []
        if shared.rank:
            outer, inner = grad[:, : shared.outputs], grad[:, shared.outputs :]
            inner.copy_(outer @ shared.b)
            gradients = shared.split_gradients(inner.t() @ normed, outer.t() @ low)
        if not ctx.needs_input_grad[0]:
            return None, None, None, None, *gradients
        # y = w * x * r with r = (mean(x^2) + eps)^-1/2, so dx = r * (w dy) - x * r^3 / H * sum(w dy x).
        pull = widen(grad @ shared.matrix).mul_(widen(weight))
        full = widen(x)
        along = (pull * full).sum(-1, keepdim=True).mul_(rstd.pow(3)).div_(-x.shape[-1])
        pull.mul_(rstd).addcmul_(full, along)
        return pull.to(x.dtype), None, None, None, *gradients


class RotatedHeads(torch.autograd.Function):
    """Queries, keys and values (rows, heads, length, width) out of the columns of a product, rotated by position.

    Rotary position embedding over halves (Su et al. 2021, arXiv 2104.09864, in the layout of Llama's weights).
    """

    @staticmethod
    def forward(  # noqa: PLR0917  autograd passes them by place
        ctx: Any, y: Tensor, cos: Tensor, sin: Tensor, rows: int, counts: tuple[int, int]
    ) -> tuple[Tensor, ...]:
        """`y` (T, at least (heads + 2 key heads) * width); `cos`, `sin` (1 or rows, length, width); `counts` both heads."""
        ctx.save_for_backward(cos, sin)
        ctx.shape, ctx.rows, ctx.counts, ctx.options = y.shape, rows, counts, {"dtype": y.dtype, "device": y.device}
        q, k, v = _heads(y, rows, counts, cos.shape[-1])
        q, k = (_rotate(part, cos, sin, torch.empty(part.shape, **ctx.options)) for part in (q, k))
        return q, k, v.contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        cos, sin = ctx.saved_tensors
        grad = torch.empty(ctx.shape, **ctx.options)
        q, k, v = _heads(grad, ctx.rows, ctx.counts, cos.shape[-1])
        _rotate(grads[0], cos, sin, q, back=True)
        _rotate(grads[1], cos, sin, k, back=True)
        v.copy_(grads[2])
        return grad, None, None, None, None


def _heads(y: Tensor, rows: int, counts: tuple[int, int], width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return views of the columns of `y` as queries, keys and values, (rows, heads, length, width)."""
    queries, keys = counts[0] * width, counts[1] * width
    cut = y.view(rows, -1, y.shape[-1])
    parts = (cut[..., :queries], cut[..., queries : queries + keys], cut[..., queries + keys : queries + 2 * keys])
    q, k, v = (part.view(*part.shape[:-1], -1, width).transpose(1, 2) for part in parts)
    return q, k, v


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor, *, back: bool = False) -> Tensor:
    """Write `x` turned by its position (or turned back, which is the gradient) into `out`; return it."""
    half = x.shape[-1] // 2
    sign = -1.0 if back else 1.0
    torch.mul(x, cos[:, None], out=out)
    out[..., :half].addcmul_(x[..., half:], sin[:, None, :, :half], value=-sign)
    out[..., half:].addcmul_(x[..., :half], sin[:, None, :, half:], value=sign)
    return out


class GatedProduct(torch.autograd.Function):
    """silu(gate) * up out of the columns of a product: (T, more than 2 I) -> (T, I) (Shazeer 2020, arXiv 2002.05202)."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, width: int) -> Tensor:
        gate, up = y[:, :width], y[:, width : 2 * width]
        active = F.silu(gate)
        ctx.save_for_backward(y, active)
        ctx.width = width
        return active * up

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        y, active = ctx.saved_tensors
        width = ctx.width
        gate, up = y[:, :width], y[:, width : 2 * width]
        grad = torch.empty_like(y)
        torch.mul(grads[0], active, out=grad[:, width : 2 * width])
        torch.ops.aten.silu_backward.grad_input(grads[0] * up, gate, grad_input=grad[:, :width])
        return grad, None


class AddedProduct(torch.autograd.Function):
    """residual + x W^T + scale * x A^T B^T: (T, H) and (T, I) -> (T, H)."""

    @staticmethod
    def forward(  # noqa: PLR0917  autograd passes them by place
        ctx: Any, residual: Tensor, x: Tensor, weight: Tensor, a: Tensor | None, b: Tensor | None, scale: float
    ) -> Tensor:
        y = torch.addmm(residual, x, weight.t())
        if a is None or b is None:
            ctx.save_for_backward(weight)
            return y
        kind, a, b = a.dtype, a.to(x.dtype), b.mul(scale).to(x.dtype)
        low = x @ a.t()
        y.addmm_(low, b.t())
        ctx.save_for_backward(weight, x, low, a, b)
        ctx.scale, ctx.kind = scale, kind
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = grads[0]
        weight, *adapter = ctx.saved_tensors
        grad_x = grad @ weight
        if not adapter:
            return grad, grad_x, None, None, None, None
        x, low, a, b = adapter
        grad_low = grad @ b
        grad_x.addmm_(grad_low, a)
        grad_a = (grad_low.t() @ x).to(ctx.kind)
        grad_b = (grad.t() @ low).to(ctx.kind).mul_(ctx.scale)
        return grad, grad_x, None, grad_a, grad_b, None
