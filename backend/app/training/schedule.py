"""The learning rate over a run."""

import math

from app.contracts.options import Scheduler


def learning_rate_at(step: int, total_steps: int, peak: float, warmup_ratio: float, scheduler: Scheduler) -> float:
    """Return the learning rate of optimizer step `step` (from 0): a linear rise, then constant or down towards 0.

    The first step already learns (peak / warm-up steps); the first step after warm-up has the peak.
    """
    warmup = math.ceil(total_steps * warmup_ratio)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, total_steps - warmup)
    if scheduler == "linear":
        return peak * (1 - progress)
    if scheduler == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * progress))
    return peak
