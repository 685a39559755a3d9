"""The bound: its rank among past residuals, its fall-backs, and that it covers what it promises."""

import math
import random

import pytest

from app.contracts.record import JobRecord
from app.planner.bound import FEW_MARGIN, ROUGH, RULE, Group, Residuals, add_records, calculate_bound, raise_peak, read_shipped


def record(measured: int, planned: int = 1_000_000, job_id: str = "job-1") -> JobRecord:
    return JobRecord(
        job_id=job_id, name="A job", model_id="gpt2", device_id="cpu", device_kind="cpu", dtype="float32", quantization="none",
        gradient_checkpointing=False, memory_method="closed_form", time_method="table", finished_at="2026-11-22T12:00:00Z",
        planned_peak_bytes=planned, measured_peak_bytes=measured, planned_seconds=10.0, planned_seconds_p90=14.0,
        measured_seconds=11.0,
    )  # fmt: skip


@pytest.mark.parametrize(("count", "rank"), [(19, 19), (39, 38), (46, 45), (99, 95), (199, 190)])
def test_the_factor_is_the_95th_of_100_next_runs(count: int, rank: int) -> None:
    residuals = tuple(math.log(1 + place / 1000) for place in range(1, count + 1))
    bound = calculate_bound(residuals)
    assert (bound.confidence, bound.samples, bound.extra_bytes) == (0.95, count, 0)
    assert bound.factor == pytest.approx(1 + rank / 1000)


def test_fewer_than_19_runs_give_their_largest_and_5_percent_and_no_more_confidence_than_they_hold() -> None:
    bound = calculate_bound((0.0, math.log(1.02), math.log(0.9)))
    assert bound.factor == pytest.approx(1.02 * FEW_MARGIN)
    assert (bound.confidence, bound.samples) == (0.75, 3)
    assert calculate_bound((0.0,) * 18).confidence == 0.94


def test_without_a_measurement_a_rule_holds_and_no_confidence_is_stated() -> None:
    assert calculate_bound(()) == RULE
    assert RULE.confidence is None
    assert raise_peak(1000, RULE) == 1100 + 100 * 2**20
    assert Residuals().find_bound("cuda", "none", "rough") == ROUGH


def test_predictions_that_were_always_too_high_never_lower_a_peak() -> None:
    bound = calculate_bound(tuple(math.log(0.8) for _ in range(30)))
    assert bound.factor == 1.0
    assert raise_peak(12345, bound) == 12345


def test_the_bound_covers_at_least_95_percent_of_runs_like_the_past_ones() -> None:
    chance = random.Random(5)
    covered = 0
    for _ in range(2000):
        past = tuple(chance.gauss(0.01, 0.04) for _ in range(40))
        covered += math.exp(chance.gauss(0.01, 0.04)) <= calculate_bound(past).factor
    assert covered / 2000 > 0.94


def test_finished_jobs_of_this_machine_join_the_shipped_runs_and_replace_them_when_there_are_enough() -> None:
    group = Group("cpu", "none", "closed_form")
    shipped = Residuals({group: (math.log(1.1),) * 20})
    few = add_records(shipped, [record(1_050_000)])
    assert few.find_bound("cpu", "none", "closed_form").model_dump(include={"samples", "own_samples"}) == {
        "samples": 21,
        "own_samples": 1,
    }
    many = add_records(shipped, [record(1_020_000, job_id=f"job-{number}") for number in range(19)])
    bound = many.find_bound("cpu", "none", "closed_form")
    assert (bound.samples, bound.own_samples, bound.factor) == (19, 19, pytest.approx(1.02))
    assert many.find_bound("cuda", "nf4", "traced") == RULE


def test_the_formula_never_gets_a_tighter_bound_than_the_trace_and_no_confidence_of_its_own() -> None:
    residuals = Residuals({Group("cuda", "nf4", "traced"): (math.log(1.3),) * 20})
    bound = residuals.find_bound("cuda", "nf4", "closed_form")
    assert (bound.factor, bound.confidence, bound.extra_bytes) == (pytest.approx(1.3), None, RULE.extra_bytes)
    assert residuals.find_bound("cuda", "none", "closed_form") == RULE


def test_on_a_card_what_the_allocator_took_counts_and_a_rough_plan_teaches_nothing() -> None:
    card = record(1_000_000).model_copy(update={"device_kind": "cuda", "measured_reserved_bytes": 1_200_000})
    rough = record(3_000_000).model_copy(update={"memory_method": "rough"})
    assert add_records(Residuals(), [card, rough]).own == {Group("cuda", "none", "closed_form"): (pytest.approx(math.log(1.2)),)}


def test_records_without_a_measurement_count_for_nothing() -> None:
    assert add_records(Residuals(), [record(0), record(5, planned=0)]).own == {}


def test_shipped_residuals_can_be_read_and_are_plausible() -> None:
    shipped = read_shipped()
    assert shipped.find_bound("cuda", "none", "traced", replayed=True).confidence == 0.95
    for group, values in shipped.shipped.items():
        assert group.device in {"cuda", "cpu"}
        assert values
        assert all(abs(value) < 0.7 for value in values)
