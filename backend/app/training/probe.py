"""A look at what one step really takes, before the first one counts.

On a card: the longest micro-batch forward and backward, the optimizer's step, one evaluation batch, one checkpoint. On
the processor: the longest micro-batch alone, and only what it can do in PROBE_SECONDS. Parameters, optimizer, gradients
and random state are exactly as before afterwards. When memory runs out, the micro-batch is halved (gradient.py says so)
and the probe has found the size that fits.
"""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from app.contracts.events import Noted
from app.core.units import format_bytes
from app.training.assembly import finish_gradient, update
from app.training.batching import Row
from app.training.checkpoint import RunState, save_checkpoint
from app.training.gradient import Computer
from app.training.memory import peak_bytes, reset_peak
from app.training.row_file import longest_first

PROBE_SECONDS = 5.0
"""On the processor."""
SHORT_TOKENS = 64
"""Tokens of the first try, from which the time of the longest micro-batch is judged."""


def probe(
    compute: Computer,
    optimizer: torch.optim.Optimizer,
    train_rows: Sequence[Row],
    heldout_rows: Sequence[Row],
    planned_bytes: int,
) -> None:
    """Run the probe and log the peak beside the planned one (0: nothing was planned).

    May lower `compute.limits`. Raises OutOfDeviceMemory or OutOfHostMemory when one row alone is too much.
    """
    started = time.monotonic()
    on_card = compute.device.type == "cuda"
    longest = longest_micro_batch(compute, train_rows)
    with _restored(compute, optimizer):
        if not on_card:
            longest = affordable(compute, longest)
            if not longest:
                compute.job_dir.append(Noted(level="info", key="probe.skipped", params={"seconds": PROBE_SECONDS}))
                return
        reset_peak(compute.device)
        compute.accumulate_gradient(longest)
        if on_card:
            finish_gradient(compute.parameters, sum(len(row.targets) for row in longest), 1.0)
            update(optimizer, 0.0)
            if heldout_rows:
                compute.summed_loss(longest_micro_batch(compute, heldout_rows))
            _save_once(compute, optimizer)
    measured = peak_bytes(compute.device)
    over = 0 < planned_bytes < measured
    params = {
        "rows": len(longest),
        "tokens": max(len(row.ids) for row in longest),
        "planned_bytes": planned_bytes,
        "measured_bytes": measured,
        "planned": format_bytes(planned_bytes),
        "measured": format_bytes(measured),
        "seconds": round(time.monotonic() - started, 1),
    }
    compute.job_dir.append(
        Noted(level="warning" if over else "info", key="probe.over_plan" if over else "probe.measured", params=params)
    )


def longest_micro_batch(compute: Computer, rows: Sequence[Row]) -> list[Row]:
    """Return the longest rows that could meet in one step, of as many micro-batches as are computed at the same time."""
    longest = next(longest_first(rows, compute.limits.rows))
    return [row for part in compute.split(longest)[: compute.limits.lanes] for row in part]


def affordable(compute: Computer, rows: Sequence[Row]) -> list[Row]:
    """Return as many of `rows` as the processor can compute in PROBE_SECONDS, judged by the start of one, done twice.

    Maybe none.
    """
    first = next((row for row in rows if row.targets[0] < SHORT_TOKENS), None)
    short = first and Row(first.ids[:SHORT_TOKENS], [target for target in first.targets if target < SHORT_TOKENS])
    if not short:
        short = Row(rows[0].ids[:SHORT_TOKENS], [min(SHORT_TOKENS, len(rows[0].ids)) - 1])
    started = time.monotonic()
    compute.accumulate_gradient([short])
    warm = time.monotonic()
    compute.accumulate_gradient([short])
    per_token = (time.monotonic() - warm) / len(short.ids)
    left = PROBE_SECONDS - (time.monotonic() - started)
    return list(rows[: max(0, int(left / (per_token * len(rows[0].ids))))])


def _save_once(compute: Computer, optimizer: torch.optim.Optimizer) -> None:
    """Write a checkpoint aside and delete it: the disk has room for one, and the card for making it."""
    folder = compute.job_dir.path / "probe"
    try:
        save_checkpoint(folder, compute.head.model, optimizer, RunState(micro_batch_size=1, token_budget=None))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _restored(compute: Computer, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Put parameters, gradients, optimizer and random state back as they were, from copies in main memory."""
    random_state = compute.random_state()
    parameters = [parameter.detach().cpu().clone() for parameter in compute.parameters]
    moments = [
        {name: value.detach().cpu().clone() for name, value in optimizer.state.get(parameter, {}).items()}
        for parameter in compute.parameters
    ]
    had_gradients = [parameter.grad is not None for parameter in compute.parameters]
    try:
        yield
    finally:
        _put_back(compute.parameters, parameters, moments, had_gradients, optimizer)
        compute.set_random_state(random_state)


@torch.no_grad()
def _put_back(
    parameters: Sequence[nn.Parameter],
    values: Sequence[torch.Tensor],
    moments: Sequence[dict[str, torch.Tensor]],
    had_gradients: Sequence[bool],
    optimizer: torch.optim.Optimizer,
) -> None:
    for parameter, value, states, had_gradient in zip(parameters, values, moments, had_gradients, strict=True):
        parameter.copy_(value)
        if had_gradient and parameter.grad is not None:
            parameter.grad.zero_()
        elif had_gradient:
            parameter.grad = torch.zeros_like(parameter)
        else:
            parameter.grad = None
        if not states:
            optimizer.state.pop(parameter, None)
        for name, state in states.items():
            optimizer.state[parameter][name].copy_(state)
