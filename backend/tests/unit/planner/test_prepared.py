"""Prepared products of a processor: how many sizes of micro-batches a run meets, and what they hold."""

import math
import random
from dataclasses import replace

import pytest

from app.planner.prepared import KEPT_PRODUCTS, PRODUCT_BYTES, count_prepared_bytes, count_sizes
from app.planner.run_shape import RowLengths, RunShape
from app.training.batching import LENGTH_STEP, Row, split
from tests.unit.planner.test_fit import device, plan

RUN = RunShape("cpu", 8, 400, "bfloat16", "none", 1_000_000, 16, checkpointing=False)


def spread(shortest: int, longest: int) -> RowLengths:
    return RowLengths(tuple(round(shortest + (longest - shortest) * k / 20) for k in range(21)), measured=True)


def simulate(shortest: int, longest: int, rows: int, per_step: int, micro_rows: int) -> tuple[int, int]:
    """Return (micro-batches, different numbers of tokens among them) of one epoch, cut by the engine's own `split`."""
    numbers = random.Random(1)
    drawn = [Row([0] * numbers.randint(shortest, longest), [1]) for _ in range(rows)]
    batches = [batch for i in range(0, rows, per_step) for batch in split(drawn[i : i + per_step], micro_rows, 1024)]
    sizes = {len(batch) * math.ceil(len(batch[0].ids) / LENGTH_STEP) * LENGTH_STEP for batch in batches}
    return len(batches), len(sizes)


@pytest.mark.parametrize(
    ("shortest", "longest", "rows", "per_step", "micro_rows"),
    [(60, 400, 48, 8, 8), (60, 400, 500, 8, 8), (60, 400, 3000, 16, 8), (64, 160, 16, 4, 4), (100, 480, 64, 1, 1)],
)
def test_the_number_of_sizes_is_that_of_a_simulated_run_within_a_third(
    shortest: int, longest: int, rows: int, per_step: int, micro_rows: int
) -> None:
    batches, sizes = simulate(shortest, longest, rows, per_step, micro_rows)
    assert count_sizes(spread(shortest, longest), micro_rows, 1024, batches) == pytest.approx(sizes, rel=0.34, abs=1.5)


def test_rows_of_one_length_need_one_size() -> None:
    assert count_sizes(RowLengths((128,) * 21, measured=True), 8, 1024, 50) == 1.0


def test_rows_cut_at_max_length_count_as_equally_long() -> None:
    assert count_sizes(spread(300, 900), 8, 256, 50) == 1.0


def test_32_bits_and_cards_prepare_nothing() -> None:
    lengths = spread(60, 400)
    assert count_prepared_bytes(replace(RUN, dtype="float32"), lengths, 1024, 100, 5) == 0
    assert count_prepared_bytes(replace(RUN, device="cuda"), lengths, 1024, 100, 5) == 0
    assert count_prepared_bytes(RUN, RowLengths((), measured=False), 1024, 0, 5) == 0


def test_a_long_run_holds_what_is_kept_for_good_and_the_limit_once_more() -> None:
    held = count_prepared_bytes(RUN, spread(60, 400), 1024, 100_000, 5)
    longer = count_prepared_bytes(RUN, spread(60, 400), 1024, 200_000, 5)
    assert held == longer
    assert held > 2 * KEPT_PRODUCTS * PRODUCT_BYTES


def test_mixed_rows_are_weighed_by_the_micro_batch_that_fills_the_token_limit() -> None:
    """Rows of 400 tokens are computed two at a time (800 tokens); among rows of 200 to 400 there are fuller micro-batches."""
    cpu = device(64, "cpu")
    options = {"batch_size": 8, "gradient_accumulation_steps": 1, "max_length": 512, "dtype": "float32"}
    long_only = plan("gpt2", cpu, RowLengths((400,) * 21, measured=True), **options)
    mixed = plan("gpt2", cpu, spread(200, 400), **options)
    assert mixed.parts.activations > 1.1 * long_only.parts.activations
