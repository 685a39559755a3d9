"""Something that can be timed again and again, and its times so far."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from app.training.calibration.estimate import Timing

LEAST_SECONDS = 0.01
"""A time shorter than this says more about the clock and the scheduler than about the work."""
MOST_CALLS = 1000


@dataclass
class Piece:
    """One piece of work with its times."""

    name: str
    group: str
    """Pieces of one group are slowed down alike when the machine is slower."""
    run: Callable[[], object]
    calls: int = 1
    """How often it is done for one time."""
    repeated: bool = False
    """Whether a job does this over and over: it is done once untimed before each time, so that caches and heap are as there."""
    tidy: Callable[[], object] = lambda: None
    """Done after each call of `run`, untimed."""
    times: list[Timing] = field(default_factory=list)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def clock(piece: Piece, device: torch.device) -> float:
    """Do a piece and return its seconds."""
    synchronise(device)
    started = time.perf_counter()
    for _ in range(piece.calls):
        piece.run()
    synchronise(device)
    seconds = (time.perf_counter() - started) / piece.calls
    piece.tidy()
    return seconds


def warm_up(piece: Piece, device: torch.device) -> None:
    """Do a piece untimed."""
    piece.run()
    synchronise(device)
    piece.tidy()


def settle_calls(piece: Piece, device: torch.device, least_seconds: float = LEAST_SECONDS) -> Piece:
    """Let a piece be done so often for one time that the time is long enough; return it, warm."""
    warm_up(piece, device)
    piece.calls = max(1, min(MOST_CALLS, round(least_seconds / max(1e-6, clock(piece, device)))))
    return piece
