"""All pieces in turn, round after round in a new order, the reference between them."""

import logging
import random
import time
from collections.abc import Sequence

import torch

from app.training.calibration.estimate import Series, Timing
from app.training.calibration.others import BusyOthers
from app.training.calibration.pieces import Piece, clock, warm_up

log = logging.getLogger("app.training.calibration")

LEAST_ROUNDS = 2
MOST_ROUNDS = 12
LONG_SECONDS = 0.1
"""A piece that takes so long is itself what fills caches and heap, and is done untimed before its first time alone: the time
straight after something else was 0.95 to 1.08 times the one after itself (median of 8), that of shorter pieces up to 1.2."""


def take_series(number: int, pieces: Sequence[Piece], reference: Piece, device: torch.device, *, until: float) -> Series:
    """Time every piece once a round until the clock (`time.perf_counter`) shows `until`; return how calm it was.

    At least LEAST_ROUNDS are done, however late it is. The times are added to the pieces.
    """
    draw = random.Random(number)  # noqa: S311  not a secret
    order = list(pieces)
    others = BusyOthers()
    references = [clock(reference, device)]
    done, last = 0, 0.0
    # None begins that would end far beyond the time.
    while done < LEAST_ROUNDS or (done < MOST_ROUNDS and time.perf_counter() + 0.5 * last < until):
        started = time.perf_counter()
        draw.shuffle(order)
        for piece in order:
            if piece.repeated and not (piece.times and piece.times[-1].seconds > LONG_SECONDS):
                warm_up(piece, device)
            seconds = clock(piece, device)
            references.append(clock(reference, device))
            piece.times.append(Timing(number, seconds, (references[-2] + references[-1]) / 2))
        last = time.perf_counter() - started
        done += 1
    found = Series(number=number, rounds=done, references=tuple(references), others_share=others.measure_share())
    log.info("series %d: %d rounds, last %.1f s, unrest %.2f, others %.2f", number, done, last, found.unrest, found.others_share)
    return found
