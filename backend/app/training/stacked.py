"""Frozen linear layers and their adapters as one matrix each, so that both are one product.

A layer with an adapter computes x W^T + s (x A^T) B^T (Hu et al. 2021, arXiv 2106.09685). Written beside each other,
[x | x A^T] [W | s B]^T is one product; so is [W; A] x. Which of the two is chosen by where the layer is narrow: the rank-sized
product that remains then reads and writes the narrow side. N outputs, H inputs, R the sum of the adapters' ranks.

The layers' own weights become views of the matrix: nothing is held twice.
"""

from collections.abc import Sequence
from threading import Lock

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from app.training.lora import LoraLayer, count_changes
from app.training.memory import release_mapped


class _Stacked:
    """Layers side by side, and where each adapter's share of the matrices lies."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self._frozen = [layer.wrapped if isinstance(layer, LoraLayer) else layer for layer in layers]
        weights = [weight_of(linear) for linear in self._frozen]
        self.sizes = [weight.shape[0] for weight in weights]
        """Outputs of each layer."""
        self.outputs, self.inputs = sum(self.sizes), weights[0].shape[1]
        self.adapters: list[LoraLayer] = []
        self.blocks: list[tuple[slice, slice]] = []
        """Where each adapter's B lies in (N, R)."""
        self.rank = start = 0
        for layer, size in zip(layers, self.sizes, strict=True):
            if isinstance(layer, LoraLayer):
                rank = layer.lora_A.shape[0]
                self.adapters.append(layer)
                self.blocks.append((slice(start, start + size), slice(self.rank, self.rank + rank)))
                self.rank += rank
            start += size
        self._seen: tuple[object, ...] | None = None
        self._casting = Lock()
        """Micro-batches that run at the same time (lanes.py) cast once."""
        self.bias: Tensor | None = None
        biases = [getattr(linear, "bias", None) for linear in self._frozen]
        if any(bias is not None for bias in biases):
            rows = [
                weight.new_zeros(len(weight)) if bias is None else bias.detach()
                for weight, bias in zip(weights, biases, strict=True)
            ]
            self.bias = torch.cat(rows)

    def parameters(self) -> list[Tensor]:
        """Return A and B of each adapter."""
        return [tensor for layer in self.adapters for tensor in (layer.lora_A, layer.lora_B)]

    def split_gradients(self, grad_a: Tensor, grad_b: Tensor) -> list[Tensor]:
        """Return the gradients of `parameters()` from (R, H) and (N, R)."""
        gradients = []
        for layer, (rows, columns) in zip(self.adapters, self.blocks, strict=True):
            kind = layer.lora_A.dtype
            gradients += [grad_a[columns].to(kind), grad_b[rows, columns].to(kind).mul_(layer.scale)]
        return gradients

    def _place(self, room: Tensor) -> None:
        """Move the layers' weights into `room` (N, H), a part of the matrix."""
        weights = [weight_of(linear) for linear in self._frozen]
        start = 0
        for linear, weight in zip(self._frozen, weights, strict=True):
            rows = room[start : start + len(weight)]
            rows.copy_(weight)
            linear.weight = nn.Parameter(rows.t() if isinstance(linear, Conv1D) else rows, requires_grad=False)
            start += len(weight)
        release_mapped(weights)

    @torch.no_grad()
    def _cast(self, a: Tensor, b: Tensor) -> None:
        """Write the adapters into (R, H) and (N, R) if they have changed; B carries its scale.

        The fused AdamW of torch 2.13 changes parameters without counting up their version: its steps are counted apart.
        """
        state = (count_changes(), *((id(parameter), parameter._version) for parameter in self.parameters()))
        with self._casting:
            if state == self._seen:
                return
            for layer, (rows, columns) in zip(self.adapters, self.blocks, strict=True):
                a[columns].copy_(layer.lora_A)
                torch.mul(layer.lora_B, layer.scale, out=b[rows, columns])
            self._seen = state


class Widening(_Stacked):
    """Layers that read the same narrow input: matrix (N, H + R) = [W | s B], and A (R, H)."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__(layers)
        with torch.no_grad():
            weight = weight_of(self._frozen[0])
            self.matrix = weight.new_zeros(self.outputs, self.inputs + self.rank)
            self.a = weight.new_zeros(self.rank, self.inputs)
            self._place(self.matrix[:, : self.inputs])

    def multiply(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (T, N) from (T, H + R), whose last columns this fills, and what it fills them with, x A^T (T, R)."""
        self._cast(self.a, self.matrix[:, self.inputs :])
        low = x[:, : self.inputs] @ self.a.t()
        if self.rank:
            x[:, self.inputs :] = low
        return nn.functional.linear(x, self.matrix, self.bias), low

    def pull(self, grad: Tensor, *, onwards: bool) -> tuple[Tensor | None, Tensor]:
        """Return the gradients of x, in the first columns of (T, H + R), None unless `onwards`, and of x A^T, (T, R)."""
        width = self.inputs
        if not onwards:
            return None, grad @ self.matrix[:, width:]
        pulled = grad @ self.matrix
        low = pulled[:, width:].contiguous()
        if self.rank:
            pulled[:, :width].addmm_(low, self.a)
        return pulled, low

    def pull_parameters(self, grad: Tensor, grad_low: Tensor, x: Tensor, low: Tensor) -> list[Tensor]:
        """Return the gradients of `parameters()`; x (T, H), `low` from `multiply`, `grad_low` from `pull`."""
        return self.split_gradients(grad_low.t() @ x, grad.t() @ low)


class Narrowing(_Stacked):
    """A layer whose output is added to a narrow stream: matrix (N + R, H) = [W; A], and s B (N, R)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__([layer])
        with torch.no_grad():
            weight = weight_of(self._frozen[0])
            self.matrix = weight.new_zeros(self.outputs + self.rank, self.inputs)
            self.b = weight.new_zeros(self.outputs, self.rank)
            self._place(self.matrix[: self.outputs])

    def add(self, residual: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return residual + x W^T + bias + s (x A^T) B^T, (T, N), and x A^T, (T, R)."""
        self._cast(self.matrix[self.outputs :], self.b)
        if not self.rank:
            y = torch.addmm(residual, x, self.matrix.t())
            return (y if self.bias is None else y.add_(self.bias)), y[:, :0]
        both = x @ self.matrix.t()
        low = both[:, self.outputs :].contiguous()
        y = residual + both[:, : self.outputs]
        if self.bias is not None:
            y.add_(self.bias)
        return y.addmm_(low, self.b.t()), low

    def pull(self, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of x, (T, H), and of x A^T, (T, R)."""
        if not self.rank:
            return grad @ self.matrix, grad[:, :0]
        both = grad.new_empty(grad.shape[0], self.outputs + self.rank)
        low = grad @ self.b
        both[:, : self.outputs], both[:, self.outputs :] = grad, low
        return both @ self.matrix, low

    def pull_parameters(self, grad: Tensor, grad_low: Tensor, x: Tensor, low: Tensor) -> list[Tensor]:
        """Return the gradients of `parameters()`; `low` from `add`, `grad_low` from `pull`."""
        return self.split_gradients(grad_low.t() @ x, grad.t() @ low)


def weight_of(linear: nn.Module) -> Tensor:
    """Return a layer's weight as (outputs, inputs): GPT-2 stores it the other way round."""
    weight: Tensor = linear.weight.detach()  # type: ignore[operator]
    return weight.t() if isinstance(linear, Conv1D) else weight
