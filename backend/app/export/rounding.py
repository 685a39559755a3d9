"""Round merged weights with regard to what enters their layers, where rounding each to its nearest number moves too many answers.

Rounding W (out, in) to W + E changes a layer's outputs by E x: over the inputs seen by tr(E H E^T), with H the sum of x x^T. Each
column is rounded in turn and its error made good by the columns that are not rounded yet, those with the largest inputs first
(Frantar et al. 2022, "GPTQ", arXiv 2210.17323, algorithm 1; here the grid is that of a 16-bit float).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from app.training.lora import LoraLayer

MOST_BYTES = 4 << 30
"""Memory for the moments of all layers; a model that needs more is not calibrated."""
_DAMPING = 0.01
"""Of the mean diagonal, as in the paper: what no input has shown counts a little."""
_BLOCK = 128
"""Columns after which the error is spread over all that follow."""


def needed_bytes(model: nn.Module) -> int:
    """Return the memory that `collect_moments` takes at most."""
    return sum(4 * layer.lora_A.shape[1] ** 2 for layer in model.modules() if isinstance(layer, LoraLayer))


@dataclass(frozen=True)
class _Factor:
    """What rounding needs of the inputs of a layer."""

    order: Tensor
    """(in,) columns, those with the largest inputs first."""
    inverse_root: Tensor
    """(in, in) upper triangle U with (H + damping)^-1 = U^T U, in that order."""


class Rounder:
    """Rounds the weights of layers whose inputs were seen."""

    def __init__(self, moments: dict[str, Tensor]) -> None:
        """`moments`: for each layer's name the sum of x x^T over its inputs, (in, in) fp32; layers may share one."""
        self._moments = moments
        self._factors: dict[int, _Factor] = {}

    @torch.inference_mode()
    def round(self, layer: str, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """Return `weight` (out, in), in fp32, rounded to `dtype`; to the nearest where the layer's inputs were not seen.

        Raise ArithmeticError where nothing can be solved for with its inputs.
        """
        if layer not in self._moments:
            return weight.to(dtype)
        factor = self._factor(self._moments[layer])
        columns = weight.float().t()[factor.order].contiguous()
        rounded = torch.empty_like(columns, dtype=dtype)
        count = len(columns)
        for start in range(0, count, _BLOCK):
            stop = min(start + _BLOCK, count)
            errors = torch.empty_like(columns[start:stop])
            for place in range(start, stop):
                rounded[place] = columns[place]
                error = (columns[place] - rounded[place].float()) / factor.inverse_root[place, place]
                columns[place + 1 : stop].addr_(factor.inverse_root[place, place + 1 : stop], error, alpha=-1.0)
                errors[place - start] = error
            columns[stop:].addmm_(factor.inverse_root[start:stop, stop:].t(), errors, alpha=-1.0)
        return rounded[torch.argsort(factor.order)].t().contiguous()

    def _factor(self, moment: Tensor) -> _Factor:
        known = self._factors.get(id(moment))
        if known is None:
            diagonal = moment.diagonal()
            order = torch.argsort(diagonal, descending=True)
            damped = moment[order][:, order]
            damped.diagonal().add_(_DAMPING * diagonal.mean().clamp(min=1e-12))
            lower, failed = torch.linalg.cholesky_ex(damped)
            root, failed_again = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
            if failed or failed_again or not torch.isfinite(root).all():
                raise ArithmeticError("the inputs of a layer are too large or too much alike")
            known = _Factor(order, root)
            self._factors = {id(moment): known}  # layers that share a moment come one after the other: one is kept
        return known


@torch.inference_mode()
def collect_moments(model: nn.Module, rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Return the sum of x x^T over the inputs of each layer with an adapter, for the tokens of `rows`.

    Layers that read the same input share one tensor.
    """
    moments: dict[str, Tensor] = {}
    shared: dict[str, str] = {}
    last: tuple[object, str] = (None, "")

    def listen(name: str, given: Tensor) -> None:
        nonlocal last
        if given is last[0]:
            shared[name] = last[1]
            return
        last = (given, name)
        inputs = given.reshape(-1, given.shape[-1]).float()
        if name not in moments:
            moments[name] = torch.zeros(inputs.shape[1], inputs.shape[1])
        moments[name].addmm_(inputs.t(), inputs)

    hooks = [
        module.register_forward_pre_hook(lambda _, given, name=name: listen(name, given[0]))
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    ]
    try:
        for ids in rows:
            model(input_ids=torch.tensor([list(ids)]), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return moments | {name: moments[first] for name, first in shared.items()}
