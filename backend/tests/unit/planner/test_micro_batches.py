"""The sizes of micro-batches: the planner's count is the engine's."""

import random
from dataclasses import replace
from itertools import chain, pairwise

import pytest
import torch

from app.planner.micro_batches import (
    PACKED_STEP,
    MicroSize,
    count_tokens,
    cut_evenly,
    cut_groups,
    find_end,
    measure_part,
    round_length,
    simulate_steps,
)
from app.planner.run_shape import RowLengths, RunShape, count_largest
from app.training.batching import Row, collate, count_shared, split

LENGTHS = RowLengths(tuple(range(40, 461, 21)), measured=True, shared=30)


def run_of(*, packed: bool) -> RunShape:
    return RunShape("cpu", 8, 460, "float32", "none", 1000, 4, checkpointing=False, packed=packed)


@pytest.mark.parametrize("packed", [True, False])
def test_sizes_are_those_of_the_tensors_that_the_engine_makes(packed: bool) -> None:
    numbers = random.Random(3)
    prefix = list(range(30))
    rows = [Row(prefix + [numbers.randint(100, 200) for _ in range(numbers.randint(10, 400))], [30]) for _ in range(64)]
    for part in split(rows, 8, 1024, packed=packed):
        batch = collate(part, 0, torch.device("cpu"), 512, packed=packed)
        size = measure_part([len(row.ids) for row in part], 512, count_shared(part) if packed else None)
        assert batch.ids.numel() == size.tokens
        assert batch.tokens == size.row_tokens
        if batch.layout is not None:
            assert (batch.layout.rows, batch.layout.length) == (size.rows, size.length)
            assert len(batch.layout.sources) == size.rows * size.length


def test_packed_rows_count_what_they_share_once() -> None:
    assert count_tokens([50, 40, 40], 10) == 10 + 40 + 30 + 30
    assert count_tokens([50, 40, 40], None) == 150
    assert count_tokens([500] * 4, 490) == 4 * 512 // 2  # the places of attention are limited too


@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize("shared", [None, 20])
def test_groups_of_one_row_are_cut_as_rows_are(shared: int | None, lanes: int) -> None:
    lengths = [900, 400, 300, 220, 200, 160, 90, 60, 40]

    def count(start: int, end: int) -> int:
        return count_tokens(lengths[start:end], shared)

    for limit in (None, 600, 1024):
        assert cut_groups(len(lengths), 4, count, limit, lanes) == cut_evenly(lengths, 4, limit, shared, lanes)


def test_a_group_is_never_divided_and_lanes_get_even_shares() -> None:
    counts = [1400, 300, 250, 250, 200, 100]

    def count(start: int, end: int) -> int:
        return sum(counts[start:end])

    assert cut_groups(6, 8, count, 1024, 1) == [1, 5, 6]
    assert cut_groups(6, 8, count, 1024, 2) == [1, 2, 4, 6]
    assert cut_groups(6, 1, count, None, 2) == [1, 2, 3, 4, 5, 6]
    assert cut_groups(6, 8, count, None, 1) == [6]


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_lanes_get_even_shares_within_the_limits(lanes: int) -> None:
    lengths = [400, 300, 220, 200, 160, 90, 60, 40]
    ends = cut_evenly(lengths, 4, 1024, None, lanes)
    parts = [lengths[start:end] for start, end in pairwise([0, *ends])]
    assert [length for part in parts for length in part] == lengths
    counts = [count_tokens(part, None) for part in parts]
    assert all(len(part) <= 4 and (len(part) == 1 or count <= 1024 / lanes) for part, count in zip(parts, counts, strict=True))
    assert len(parts) % lanes == 0 or len(parts) > lanes


def test_a_step_that_would_fit_into_one_micro_batch_is_halved_for_two_lanes() -> None:
    assert cut_evenly([100, 100, 100, 100], 8, 1024, 0, 2) == [2, 4]
    assert cut_evenly([100], 8, 1024, 0, 2) == [1]
    assert cut_evenly([300, 100, 100, 100], 8, 1024, 0, 2) == [1, 4]


def test_rows_beside_long_ones_are_shared_out_so_that_no_lane_waits() -> None:
    lengths = [377, 375, 101, 77, 74, 65, 61, 50]  # 1,180 tokens: the best is 590 for each lane
    parts = [lengths[start:end] for start, end in pairwise([0, *cut_evenly(lengths, 8, 1024, 0, 2)])]
    assert find_end([sum(part) for part in parts], 2) < 640
    assert find_end([377, 375, 428], 2) == 803  # what the largest parts within the limit would take


def test_the_end_of_lanes_that_take_what_comes_next() -> None:
    assert find_end([5, 3, 2, 4], 2) == 9
    assert find_end([5, 3, 2, 4], 1) == 14
    assert find_end([], 2) == 0


def test_attention_is_padded_to_few_lengths() -> None:
    assert [round_length(length) for length in (1, 16, 128, 129, 256, 257, 512)] == [16, 16, 128, 160, 256, 320, 512]


def test_simulated_steps_draw_every_row_length_and_fill_the_rows_of_a_step() -> None:
    drawn = simulate_steps(LENGTHS, run_of(packed=True), 8, 512)
    parts = list(chain.from_iterable(drawn.of_steps))
    assert sum(part.rows for part in parts) == 8 * drawn.steps
    assert sum(part.row_tokens for part in parts) / (8 * drawn.steps) == pytest.approx(250, rel=0.02)
    assert max(part.tokens for part in parts) <= 1024
    padded = simulate_steps(LENGTHS, run_of(packed=False), 8, 512)
    assert sum(part.tokens for part in chain.from_iterable(padded.of_steps)) > 1.15 * sum(part.tokens for part in parts)


@pytest.mark.parametrize("lanes", [1, 2])
def test_simulated_pairs_stay_together_within_the_limits(lanes: int) -> None:
    run = replace(run_of(packed=True), lanes=lanes)
    pairs = simulate_steps(LENGTHS, replace(run, method="dpo"), 8, 512)
    rows = simulate_steps(LENGTHS, run, 8, 512)
    parts = list(chain.from_iterable(pairs.of_steps))
    assert sum(part.rows for part in parts) == 2 * 8 * pairs.steps
    assert all(part.rows % 2 == 0 and part.rows <= 8 for part in parts)
    assert all(part.tokens <= 1024 / lanes + PACKED_STEP for part in parts if part.rows > 2)
    assert sum(part.row_tokens for part in parts) == 2 * sum(part.row_tokens for part in chain.from_iterable(rows.of_steps))
    assert max(part.tokens for part in parts) > 800  # two of the longest rows, though a lane alone would take one at a time


def test_a_micro_batch_of_one_row_holds_a_pair() -> None:
    assert [count_largest(rows, 100, 2) for rows in (1, 2, 3, 8)] == [2, 2, 2, 8]
    assert [count_largest(rows, 3, 1) for rows in (1, 2, 8)] == [1, 2, 3]
    assert count_largest(8, 2, 2) == 4


def test_one_row_is_padded_alone() -> None:
    assert measure_part([100], 512, None) == MicroSize(1, 112, 112, 100)
    assert measure_part([100], 512, 99) == MicroSize(1, 128, 128, 100)
    assert measure_part([100], 105, 99) == MicroSize(1, 105, 105, 100)
