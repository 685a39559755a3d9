"""What a report says of a training that changed nothing, or that came apart."""

import pytest

from app.api.report_wording import remark_read, report_read
from app.contracts.plan import Notice
from app.contracts.report import Report


def report(before: float, after: float) -> Report:
    return Report(
        heldout_rows=20,
        loss_before=before,
        loss_after=after,
        train_loss_first=2.8,
        train_loss_last=2.7,
        steps=7,
        tokens=1000,
        seconds=1.0,
        peak_bytes=0,
        trained_rows=50,
        truncated_rows=0,
        dropped_rows=0,
        trained_token_share=0.5,
    )


@pytest.mark.parametrize("after, words", [(2.7139, "stayed"), (2.7201, "stayed"), (2.6, "4 % lower"), (2.9, "7 % higher")])
def test_a_loss_that_stayed_did_not_fall_by_0_percent(after: float, words: str) -> None:
    summary = report_read(report(2.714, after), None, "en").summary

    assert words in summary and " 0 %" not in summary


def test_a_training_that_came_apart_is_not_told_that_its_learning_rate_is_too_low() -> None:
    rose = Notice(key="no_effect.nothing_learned", params={"learning_rate": "0.5", "percent": -240})

    assert "rose by 240 %" in remark_read(rose, "en").message and "so high" in remark_read(rose, "en").message
    assert "monté de 240 %" in remark_read(rose, "fr").message
    fell = Notice(key="no_effect.nothing_learned", params={"learning_rate": "1e-07", "percent": 1})
    assert "fell by 1 % only" in remark_read(fell, "en").message
