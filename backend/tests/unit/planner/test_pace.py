"""Finding a device's paces from measured steps."""

import random
import sys
from dataclasses import astuple
from pathlib import Path

import pytest

from app.planner.calibrated import GPU_SHARES, Shares, derive_pace
from app.planner.gpus import find_rates
from app.planner.pace import Pace, Sample, fit_pace, solve
from app.planner.traced import Work

BENCH = Path(__file__).parents[4] / "bench" / "planner"
MEASURED = BENCH.parents[2] / "shared" / "data" / "t4_ground_truth"
needs_measured = pytest.mark.skipif(not MEASURED.is_dir(), reason="../shared/data/t4_ground_truth is not here")
TRUE = Pace(1e-12, 8e-12, 0.0, 4e-12, 5e-12, 0.0, 2e-5)


def read_steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Sample]]:
    """Return (model, traced work and measured seconds) of every step of the T4."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCH)])
    from ground_truth import read_known

    return [(row.model, Sample(Work(*row.work), row.seconds)) for row in read_known() if row.gpu == "Tesla T4"]


def draw_samples(count: int, noise: float = 0.0) -> list[Sample]:
    draw = random.Random(0)
    found = []
    for _ in range(count):
        sizes = [10 ** draw.uniform(9, 13), 10 ** draw.uniform(8, 12), 0.0, 10 ** draw.uniform(8, 12)]
        work = Work(*sizes, 10 ** draw.uniform(7, 11), 0.0, draw.uniform(100, 9000))
        found.append(Sample(work, TRUE.seconds(work) * (1 + draw.uniform(-noise, noise))))
    return found


def test_paces_that_made_the_times_are_found_from_a_guess_that_is_four_times_off() -> None:
    guess = Pace(*(4 * value for value in astuple(TRUE)))
    fitted = fit_pace(draw_samples(60), guess, trust=1e-6)
    for found, true in zip(astuple(fitted), astuple(TRUE), strict=True):
        assert found == pytest.approx(true, rel=0.02)


def test_one_disturbed_step_does_not_rule_the_fit() -> None:
    samples = draw_samples(30, noise=0.03)
    disturbed = [Sample(samples[0].work, samples[0].seconds * 20), *samples[1:]]
    fitted = fit_pace(disturbed, TRUE, trust=0.1)
    errors = [abs(fitted.seconds(sample.work) / sample.seconds - 1) for sample in samples[1:]]
    assert sum(errors) / len(errors) < 0.06


def test_work_that_never_occurs_keeps_its_guess_and_a_pace_of_zero_stays_zero() -> None:
    samples = [Sample(Work(1e12, 0.0, 1e11, 1e9, 1e9, 0.0, 100.0), 2.0)]
    guess = Pace(1e-12, 7e-12, 0.0, 1e-11, 1e-11, 3e-11, 1e-5)
    fitted = fit_pace(samples, guess, trust=0.1)
    assert (fitted.flops_full, fitted.bytes_unpacked, fitted.flops_attention) == (7e-12, 3e-11, 0.0)
    assert fitted.flops_half > guess.flops_half


def test_no_samples_leave_the_guess() -> None:
    assert astuple(fit_pace([], TRUE, trust=0.1)) == pytest.approx(astuple(TRUE))


def test_a_sample_of_small_weight_moves_the_fit_less() -> None:
    work = Work(1e12, 0.0, 0.0, 1e9, 1e9, 0.0, 100.0)
    guess = Pace(1e-12, 1e-12, 0.0, 1e-12, 1e-12, 1e-12, 1e-6)
    full, light = (fit_pace([Sample(work, 1.3, weight)], guess, trust=0.5).flops_half for weight in (1.0, 0.1))
    assert guess.flops_half < light < full


def test_a_linear_system_is_solved_even_when_a_pivot_is_zero() -> None:
    assert solve([[0.0, 2.0], [3.0, 1.0]], [4.0, 5.0]) == pytest.approx([1.0, 2.0])


@needs_measured
def test_the_shares_in_the_table_are_those_that_the_measured_steps_of_a_t4_give(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = find_rates("Tesla T4")
    guess = Shares(half=0.5, full=0.7, attention=1.0, elementwise=0.75, gemm=0.75, unpacked=0.75, launch_seconds=10e-6)
    samples = [sample for _, sample in read_steps(monkeypatch)]
    assert len(samples) >= 40
    fitted, table = fit_pace(samples, derive_pace(rates, guess), trust=1.0), derive_pace(rates, GPU_SHARES)
    for found, committed in zip(astuple(fitted), astuple(table), strict=True):
        assert committed == pytest.approx(found, rel=0.03)


@needs_measured
def test_steps_of_a_model_are_timed_within_12_percent_on_average_by_the_steps_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = read_steps(monkeypatch)
    guess = derive_pace(find_rates("Tesla T4"), GPU_SHARES)
    errors = []
    for left_out in {model for model, _ in steps}:
        pace = fit_pace([sample for model, sample in steps if model != left_out], guess, trust=0.3)
        errors += [abs(pace.seconds(sample.work) / sample.seconds - 1) for model, sample in steps if model == left_out]
    assert len(errors) >= 40
    assert sum(errors) / len(errors) < 0.12
