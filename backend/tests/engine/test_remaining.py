"""The time that is left: the plan first, measured steps later."""

import pytest

from app.training.remaining import PRIOR_STEPS, estimate_remaining


def remaining(step: int, *, planned: float = 1000.0, per_step: float = 20.0, evaluations: int = 0) -> float:
    return estimate_remaining(
        planned_seconds=planned,
        step=step,
        total_steps=100,
        train_seconds=per_step * step,
        evaluations_left=evaluations,
        evaluation_seconds=5.0,
    )


def test_the_first_step_leans_on_the_plan_and_the_last_ones_on_what_was_measured() -> None:
    planned, measured = 10.0 * 99, 20.0 * 99
    assert remaining(1) == pytest.approx((measured + PRIOR_STEPS * planned) / (1 + PRIOR_STEPS))
    assert remaining(90) == pytest.approx(10 * 20.0, rel=0.03)
    shares = [(remaining(step) / (100 - step) - 10) / 10 for step in (1, 5, 20, 80)]
    assert shares == sorted(shares)


def test_without_a_plan_only_measured_steps_and_evaluations_count() -> None:
    assert remaining(10, planned=0.0, evaluations=2) == pytest.approx(90 * 20.0 + 10.0)


def test_nothing_is_left_at_the_end() -> None:
    assert remaining(100) == 0.0
