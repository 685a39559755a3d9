"""AdamW whose two moments take one byte a parameter instead of four (Dettmers et al. 2022, arXiv 2110.02861).

Numbers are kept in blocks: a block's largest magnitude in fp32, and each number as the place of its share of that in a table
of 256 shares, which are close together near zero. A step widens a group of parameters' moments, does AdamW's arithmetic in
fp32 and rounds the moments to the table again. PyTorch's operators only: the same on every device, and on `meta` by sizes.

A second moment is never rounded to zero: the step divides by its root (Li et al. 2023, arXiv 2309.01507).
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCK = 256
"""Numbers that share a largest magnitude. bitsandbytes' optimizers (0.50) have the same."""
TOGETHER = 1 << 18
"""Parameters whose moments are wide at the same time: 1 MiB for each fp32 array of the step. Fewer than two blocks of a usual
model have, so that the planner, which traces few blocks, sees what the step of all of them takes."""
DECADES = 7
BETAS, EPSILON = (0.9, 0.999), 1e-8


def list_shares(*, signed: bool) -> tuple[float, ...]:
    """Return the 256 shares, ascending: seven decades below 1, each with twice as many values as the one below it.

    Values of a decade are the middles of equal parts of [0.1, 1]. With a sign each decade has as many negative ones.
    """
    found = [0.0, 1.0]
    for decade in range(DECADES):
        parts = 2 ** (decade if signed else decade + 1)
        edges = [0.1 + 0.9 * place / parts for place in range(parts + 1)]
        values = [(low + high) / 2 * 10.0 ** (decade - DECADES + 1) for low, high in pairwise(edges)]
        found += [*values, *([-value for value in values] if signed else [])]
    return tuple(sorted(found))


@lru_cache(maxsize=4)
def _make_table(device: torch.device, *, signed: bool) -> Tensor:
    return torch.tensor(list_shares(signed=signed), device=device)


class EightBitAdamW(torch.optim.Optimizer):
    """Decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101), moments in eight bits."""

    state_names = ("exp_avg", "exp_avg_largest", "exp_avg_sq", "exp_avg_sq_largest", "step")
    """What there is of each parameter: places in the tables (blocks, BLOCK) uint8, largest magnitudes (blocks,) fp32."""

    def __init__(self, parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})
        for parameter in self._list_parameters():
            blocks = -(-parameter.numel() // BLOCK)
            places = torch.zeros(blocks, BLOCK, dtype=torch.uint8, device=parameter.device)
            largest = torch.zeros(blocks, device=parameter.device)
            step = torch.zeros((), device=parameter.device)
            values = (places, largest, places.clone(), largest.clone(), step)
            self.state[parameter] = dict(zip(self.state_names, values, strict=True))

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Change the parameters by their gradients; those without one stay as they are."""
        for group in self.param_groups:
            ready = [parameter for parameter in group["params"] if parameter.grad is not None]
            for together in _cut(ready):
                self._step_together(together, group["lr"], group["weight_decay"])

    def _step_together(self, parameters: Sequence[nn.Parameter], rate: float, decay: float) -> None:
        states = [self.state[parameter] for parameter in parameters]
        for state in states:
            state["step"] += 1
        step = states[0]["step"]
        gradient = torch.cat([_in_blocks(parameter.grad) for parameter in parameters])
        first = _widen(states, "exp_avg", signed=True).lerp_(gradient, 1 - BETAS[0])
        second = _widen(states, "exp_avg_sq", signed=False).mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        del gradient
        divisor = (second / (1 - BETAS[1] ** step)).sqrt_().add_(EPSILON)
        change = (first / divisor).mul_(rate / (1 - BETAS[0] ** step))
        del divisor
        _narrow(first, states, "exp_avg", signed=True)
        _narrow(second, states, "exp_avg_sq", signed=False)
        del first, second
        sizes = [len(state["exp_avg"]) for state in states]
        for parameter, blocks in zip(parameters, torch.split(change, sizes), strict=True):
            parameter.mul_(1 - rate * decay).sub_(blocks.flatten()[: parameter.numel()].view_as(parameter))

    def _list_parameters(self) -> Iterator[nn.Parameter]:
        for group in self.param_groups:
            yield from group["params"]


def _cut(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Yield the parameters in groups of at most TOGETHER numbers, or of a single one."""
    group: list[nn.Parameter] = []
    count = 0
    for parameter in parameters:
        if group and count + parameter.numel() > TOGETHER:
            yield group
            group, count = [], 0
        group.append(parameter)
        count += parameter.numel()
    if group:
        yield group


def _in_blocks(tensor: Tensor | None) -> Tensor:
    """Return the numbers as (blocks, BLOCK), zeros behind the last."""
    assert tensor is not None, "only parameters with a gradient come here"
    return F.pad(tensor.flatten(), (0, -tensor.numel() % BLOCK)).view(-1, BLOCK)


def _widen(states: Sequence[dict[str, Any]], name: str, *, signed: bool) -> Tensor:
    """Return the moments `name` of some parameters, (blocks, BLOCK) in fp32."""
    places = torch.cat([state[name] for state in states])
    largest = torch.cat([state[f"{name}_largest"] for state in states])
    return _make_table(places.device, signed=signed)[places.int()].mul_(largest[:, None])


def _narrow(moments: Tensor, states: Sequence[dict[str, Any]], name: str, *, signed: bool) -> None:
    """Keep `moments` (blocks, BLOCK), of which nothing is left, as the nearest shares."""
    shares = _make_table(moments.device, signed=signed)
    largest = moments.abs().amax(1)
    moments.div_(largest.clamp_min(torch.finfo(torch.float32).tiny)[:, None])
    places = torch.bucketize(moments, (shares[1:] + shares[:-1]) / 2, out_int32=True)
    if not signed:
        places = torch.where(moments > 0, places.clamp_min(1), places)
    sizes = [len(state[name]) for state in states]
    for state, part, peaks in zip(states, torch.split(places.to(torch.uint8), sizes), torch.split(largest, sizes), strict=True):
        state[name].copy_(part)
        state[f"{name}_largest"].copy_(peaks)
