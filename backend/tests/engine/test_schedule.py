"""The learning rate over a run."""

from itertools import pairwise

import pytest

from app.training.schedule import learning_rate_at


def test_warm_up_rises_to_the_peak_and_learns_from_the_first_step() -> None:
    rates = [learning_rate_at(step, 100, 1.0, 0.1, "cosine") for step in range(100)]
    assert rates[:10] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert rates[10] == pytest.approx(1.0)
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert rates[55] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.01


@pytest.mark.parametrize(("scheduler", "middle"), [("linear", 0.5), ("cosine", 0.5), ("constant", 1.0)])
def test_each_shape_without_warm_up(scheduler: str, middle: float) -> None:
    assert learning_rate_at(0, 10, 2.0, 0.0, scheduler) == pytest.approx(2.0)
    assert learning_rate_at(5, 10, 2.0, 0.0, scheduler) == pytest.approx(2.0 * middle)


def test_a_run_of_one_step_uses_the_peak() -> None:
    assert learning_rate_at(0, 1, 3e-4, 0.03, "cosine") == pytest.approx(3e-4)
