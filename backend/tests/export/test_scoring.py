"""The figures of a certificate."""

import numpy as np
import pytest

from app.contracts.export import Agreement
from app.export.scoring import NOT_A_NUMBER, Scores, divergence, divergences, first, top1_agreement


def scores(probabilities: list[list[float]], kept: int) -> Scores:
    p = np.array(probabilities, np.float64)
    ids = np.argsort(-p, axis=1)[:, :kept]
    return Scores(p.argmax(1), ids, np.log(np.take_along_axis(p, ids, 1)).astype(np.float32), np.log(p[:, 0]).astype(np.float32))


def test_the_divergence_is_exact_where_every_token_is_kept() -> None:
    p, q = [0.5, 0.3, 0.2], [0.2, 0.3, 0.5]
    reference = scores([p], 3)
    kept = np.log(np.array([[q[token] for token in reference.kept_ids[0]]], np.float32))
    exact = sum(a * np.log(a / b) for a, b in zip(p, q, strict=True))
    assert divergence(reference, kept) == pytest.approx(exact, rel=1e-5)


def test_tokens_that_are_not_kept_count_together_and_never_add() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(50), 20), rng.dirichlet(np.ones(50), 20)
    exact = (p * np.log(p / q)).sum(1)
    previous = np.zeros(20)
    for kept in (1, 5, 20, 49):
        reference = scores(p.tolist(), kept)
        found = divergences(reference, np.log(np.take_along_axis(q, reference.kept_ids, 1)).astype(np.float32))
        assert (found <= exact + 1e-6).all() and (found >= previous - 1e-6).all()
        previous = found
    assert found == pytest.approx(exact, rel=1e-3)


def test_a_token_that_the_engine_does_not_name_counts_among_the_rest() -> None:
    reference = scores([[0.6, 0.3, 0.1]], 2)
    assert divergence(reference, np.array([[np.log(0.6), -np.inf]], np.float32)) == pytest.approx(0.0, abs=1e-6)


def test_what_is_not_a_number_is_far_away() -> None:
    reference = scores([[0.6, 0.3, 0.1]], 2)
    assert divergence(reference, np.array([[np.nan, np.log(0.3)]], np.float32)) == NOT_A_NUMBER


def test_agreement_counts_the_same_likeliest_token() -> None:
    one, other = scores([[0.6, 0.4], [0.6, 0.4]], 2), scores([[0.6, 0.4], [0.4, 0.6]], 2)
    assert top1_agreement(one, other) == 0.5
    assert top1_agreement(first(one, 1), first(other, 1)) == 1.0
    assert one.loss == pytest.approx(-np.log(0.6), rel=1e-6)


def agreement(top1: float, positions: int, kl: float = 0.0) -> Agreement:
    return Agreement(
        engine="transformers",
        version="5",
        arithmetic="float32",
        positions=positions,
        top1=top1,
        kl=kl,
        loss=1.0,
        tokens_per_second=None,
        least_top1=0.995,
        most_kl=0.002,
    )


def test_the_bounds_are_strict() -> None:
    assert agreement(0.995, 2000).passed
    assert not agreement(1 - 4 / 639, 639).passed, "four disagreements where the bound leaves three"
    assert not agreement(0.99499, 2000).passed
    assert not agreement(1.0, 2000, kl=0.0021).passed
    assert not agreement(1.0, 2000, kl=NOT_A_NUMBER).passed
