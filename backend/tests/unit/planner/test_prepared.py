"""Prepared products of a processor: how many sizes of micro-batches a run meets, and what they hold."""

import random
from dataclasses import replace

import pytest

from app.planner.micro_batches import CPU_TOKENS, measure_part
from app.planner.prepared import (
    ATTENTION_PRODUCTS,
    KEPT_PRODUCTS,
    PRODUCT_BYTES,
    PRODUCTS_PER_SIZE,
    count_prepared_bytes,
    count_products,
)
from app.planner.run_shape import RowLengths, RunShape
from app.training.batching import Row, split
from tests.unit.planner.test_fit import device, plan

RUN = RunShape("cpu", 8, 400, "bfloat16", "none", 1_000_000, 16, checkpointing=False, packed=True)


def spread(shortest: int, longest: int) -> RowLengths:
    return RowLengths(tuple(round(shortest + (longest - shortest) * k / 20) for k in range(21)), measured=True)


def simulate(shortest: int, longest: int, steps: int, per_step: int, micro_rows: int) -> tuple[int, int]:
    """Return the different numbers of tokens and (rows, length) of random steps, cut by the engine's own `split`."""
    numbers = random.Random(1)
    drawn = [Row([numbers.randint(1, 9)] * numbers.randint(shortest, longest), [1]) for _ in range(steps * per_step)]
    drawn = [Row([index % 50000, *row.ids[1:]], row.targets) for index, row in enumerate(drawn)]
    starts = range(0, len(drawn), per_step)
    parts = [part for start in starts for part in split(drawn[start : start + per_step], micro_rows, CPU_TOKENS, packed=True)]
    sizes = [measure_part([len(row.ids) for row in part], 1024, 0) for part in parts]
    return len({size.tokens for size in sizes}), len({(size.rows, size.length) for size in sizes})


@pytest.mark.parametrize(
    ("shortest", "longest", "steps", "per_step", "micro_rows"),
    [
        (60, 400, 6, 8, 8),
        (60, 400, 60, 8, 8),
        (60, 400, 190, 16, 8),
        (64, 160, 4, 4, 4),
        (100, 480, 64, 1, 1),
        (60, 95, 500, 8, 8),
    ],
)
def test_the_number_of_products_is_that_of_a_simulated_run_within_a_fourth(
    shortest: int, longest: int, steps: int, per_step: int, micro_rows: int
) -> None:
    tokens, places = simulate(shortest, longest, steps, per_step, micro_rows)
    counted = count_products(replace(RUN, micro_batch=micro_rows), spread(shortest, longest), 1024, per_step, steps)
    assert counted == pytest.approx(PRODUCTS_PER_SIZE * (tokens + 1) + ATTENTION_PRODUCTS * (places + 1), rel=0.25)


def test_rows_of_one_length_need_one_size_and_one_for_the_probe() -> None:
    of_two_sizes = 2 * (PRODUCTS_PER_SIZE + ATTENTION_PRODUCTS)
    assert count_products(RUN, RowLengths((128,) * 21, measured=True), 1024, 8, 50) == of_two_sizes
    assert count_products(replace(RUN, micro_batch=2), spread(300, 900), 256, 2, 50) == of_two_sizes


def test_32_bits_and_cards_prepare_nothing() -> None:
    lengths = spread(60, 400)
    assert count_prepared_bytes(replace(RUN, dtype="float32"), lengths, 1024, 8, 60) == 0
    assert count_prepared_bytes(replace(RUN, device="cuda"), lengths, 1024, 8, 60) == 0
    assert count_prepared_bytes(RUN, RowLengths((), measured=False), 1024, 8, 0) == 0


def test_a_long_run_holds_what_is_kept_for_good_and_the_limit_once_more() -> None:
    held = count_prepared_bytes(RUN, spread(60, 400), 1024, 8, 60_000)
    longer = count_prepared_bytes(RUN, spread(60, 400), 1024, 8, 120_000)
    assert held == longer
    assert held > 2 * KEPT_PRODUCTS * PRODUCT_BYTES


def test_mixed_rows_are_weighed_by_the_micro_batch_that_fills_the_token_limit() -> None:
    """Rows of 400 tokens are computed two at a time (800 tokens); among rows of 200 to 400 there are fuller micro-batches."""
    cpu = device(64, "cpu")
    options = {"batch_size": 8, "gradient_accumulation_steps": 1, "max_length": 512, "dtype": "float32"}
    long_only = plan("gpt2", cpu, RowLengths((400,) * 21, measured=True), **options)
    mixed = plan("gpt2", cpu, spread(200, 400), **options)
    assert mixed.parts.activations > 1.03 * long_only.parts.activations
