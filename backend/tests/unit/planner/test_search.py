"""The search: what each objective chooses, what is given up first, and what the plan says about the other choices."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.contracts.options import FinetuningOptions
from app.contracts.plan import Plan
from app.core.messages import LANGUAGES, localise
from app.planner.run_shape import RowLengths
from tests.unit.planner.test_fit import device, plan, rows_of, value

LLAMA = "meta-llama/Llama-2-7b-hf"
MIXED = RowLengths((*range(40, 440, 20), 3000), measured=True)
"""20 of 21 quantiles rise from 40 to 420 tokens; the longest row has 3,000."""


def knobs(made: Plan) -> tuple[object, ...]:
    names = ("batch_size", "gradient_accumulation_steps", "max_length", "gradient_checkpointing", "dtype", "quantization")
    return tuple(value(made, name) for name in names)


def test_sixteen_bits_are_left_for_four_only_where_they_do_not_fit() -> None:
    assert value(plan(LLAMA, device(24)), "quantization") == "none"
    narrow = plan(LLAMA, device(12))
    assert (narrow.verdict, value(narrow, "quantization")) == ("fits", "nf4")
    assert narrow.resolved["quantization"].reason == "quantization_on.memory"
    assert value(plan(LLAMA, device(12), quantization="none"), "quantization") == "none"
    assert value(plan(LLAMA, device(12), nf4_usable=False), "quantization") == "none"


def test_a_processor_without_native_16_bits_uses_them_only_to_fit() -> None:
    roomy = device(64, "cpu", (0, 0))
    assert value(plan("gpt2-large", roomy), "dtype") == "float32"
    need = plan("gpt2-large", roomy, batch_size=1, gradient_checkpointing=True).peak_bytes_upper / 2**30
    narrow = plan("gpt2-large", device(need * 0.9, "cpu", (0, 0)))
    assert (narrow.verdict, value(narrow, "dtype")) == ("fits", "bfloat16")
    assert narrow.resolved["dtype"].reason == "dtype_chosen.smaller"


def test_quality_raises_max_length_to_the_longest_row_that_fits_and_the_context_holds() -> None:
    usual = plan("Qwen/Qwen3-0.6B", device(24), MIXED)
    assert (value(usual, "max_length"), usual.cut_rows_share) == (512, pytest.approx(1 / 21))
    best = plan("Qwen/Qwen3-0.6B", device(24), MIXED, objective="quality")
    assert (value(best, "max_length"), best.cut_rows_share, best.cut_tokens_share) == (3000, 0.0, 0.0)
    assert best.resolved["max_length"].reason == "max_length_raised.rows"
    assert value(plan("gpt2", device(24), MIXED, objective="quality"), "max_length") == 1024
    assert value(plan("Qwen/Qwen3-0.6B", device(24), MIXED, objective="quality", max_length=256), "max_length") == 256


def test_speed_cuts_the_longest_twentieth_where_few_tokens_are_lost() -> None:
    lengths = RowLengths((*([100] * 20), 240), measured=True)
    assert value(plan(lengths=lengths), "max_length") == 240
    fast = plan(lengths=lengths, objective="speed")
    balanced = plan(lengths=lengths)
    assert fast.seconds_p50 <= balanced.seconds_p50
    assert fast.cut_tokens_share <= 0.07
    # 3,000 of 7,600 tokens are too many to lose.
    assert value(plan("Qwen/Qwen3-0.6B", device(24), MIXED, objective="speed"), "max_length") == 512


def test_only_speed_enlarges_a_micro_batch_and_never_the_user_s() -> None:
    for objective in ("balanced", "quality"):
        assert value(plan("gpt2", device(80), objective=objective), "batch_size") == 8
    fast = plan("Qwen/Qwen2.5-1.5B-Instruct", device(80), rows_of(64), objective="speed")
    assert int(str(value(fast, "batch_size"))) * int(str(value(fast, "gradient_accumulation_steps"))) == 16
    assert value(plan("gpt2", device(80), objective="speed", batch_size=2), "batch_size") == 2


def test_a_bound_that_holds_is_preferred_to_a_prediction_that_does() -> None:
    for gigabytes in (3.0, 4.0, 6.0, 8.0, 12.0):
        made = plan("Qwen/Qwen2.5-1.5B-Instruct", device(gigabytes))
        assert (made.verdict == "fits") == (made.peak_bytes_upper <= made.available_bytes)


def test_every_alternative_is_a_request_that_gives_the_plan_it_promises() -> None:
    made = plan("Qwen/Qwen3-0.6B", device(8), MIXED)
    kinds = [alternative.kind for alternative in made.alternatives]
    assert kinds[0] == "runner_up"
    assert {"batch_size", "gradient_checkpointing", "max_length", "dtype", "quantization", "objective"} <= set(kinds)
    for alternative in made.alternatives:
        FinetuningOptions.model_validate(alternative.changes)
        again = plan("Qwen/Qwen3-0.6B", device(8), MIXED, **alternative.changes)
        assert again.peak_bytes == alternative.peak_bytes
        assert again.peak_bytes_upper == alternative.peak_bytes_upper
        assert again.verdict == alternative.verdict
        assert again.seconds_p50 == pytest.approx(alternative.seconds_p50)


def test_the_runner_up_fits_when_anything_else_does_and_differs() -> None:
    made = plan("gpt2-medium", device(8))
    second = made.alternatives[0]
    assert second.verdict == "fits"
    assert second.changes
    assert all(value(made, name) != other for name, other in second.changes.items())


def test_alternatives_read_well_in_both_languages() -> None:
    for made in (plan("gpt2", device(3.0), MIXED), plan(LLAMA, device(12)), plan("gpt2", device(8, "cpu"))):
        for alternative in made.alternatives:
            for language in LANGUAGES:
                sentence, _ = localise(alternative.reason.key, language, **alternative.reason.params)
                assert "{" not in sentence
                assert "%" in sentence


def test_each_value_shows_what_it_would_be_without_the_user() -> None:
    made = plan("gpt2", device(24), rows_of(90), batch_size=2, learning_rate=1e-3, max_length=64, gradient_checkpointing=True)
    automatic = {name: made.resolved[name].automatic for name in made.resolved}
    assert (automatic["batch_size"], automatic["learning_rate"], automatic["max_length"]) == (8, 3e-4, 90)
    assert automatic["gradient_checkpointing"] is False
    assert automatic["dtype"] == made.resolved["dtype"].value == "bfloat16"
    assert automatic["num_epochs"] == 5


def test_dropped_rows_leave_fewer_steps_and_split_ones_more() -> None:
    lengths = RowLengths((*([100] * 10), *([1000] * 11)), measured=True)
    cut, dropped, parts = (
        plan(lengths=lengths, train_rows=210, long_rows=what, max_length=500) for what in ("truncate", "drop", "split")
    )
    assert (cut.steps, dropped.steps, parts.steps) == (5 * 14, 5 * 7, 5 * 20)
    assert (dropped.cut_rows_share, parts.cut_tokens_share) == (pytest.approx(11 / 21), 0.0)
    assert cut.cut_tokens_share == pytest.approx(11 * 500 / 12000)
    assert dropped.cut_tokens_share == pytest.approx(11000 / 12000)
    assert dropped.seconds_p50 < cut.seconds_p50 < parts.seconds_p50
    assert [notice.key for notice in parts.reasons if notice.code == "rows_too_long"] == ["rows_too_long.split"]


def test_a_data_set_whose_rows_are_all_dropped_is_said_to_have_none() -> None:
    made = plan(lengths=rows_of(600), long_rows="drop", max_length=100)
    assert made.steps == 0
    assert "rows_missing" in [notice.key for notice in made.reasons]


@settings(max_examples=60, deadline=None)
@given(
    objective=st.sampled_from(["speed", "balanced", "quality"]),
    model_id=st.sampled_from(["gpt2", "gpt2-large", "Qwen/Qwen3-0.6B", LLAMA]),
    gigabytes=st.floats(0.1, 100.0),
    kind=st.sampled_from(["cuda", "cpu"]),
    longest=st.integers(1, 5000),
    long_rows=st.sampled_from(["truncate", "drop", "split"]),
)
def test_whatever_is_asked_the_product_and_the_users_values_hold(
    objective: str, model_id: str, gigabytes: float, kind: str, longest: int, long_rows: str
) -> None:
    lengths = RowLengths(tuple(max(1, longest * step // 20) for step in range(21)), measured=True)
    chosen: dict[str, object] = {
        "objective": objective,
        "long_rows": long_rows,
        "gradient_checkpointing": True,
        "max_length": 200,
    }
    made = plan(model_id, device(gigabytes, kind), lengths, **chosen)
    assert int(str(value(made, "batch_size"))) * int(str(value(made, "gradient_accumulation_steps"))) == 16
    assert all(value(made, name) == wanted for name, wanted in chosen.items())
    FinetuningOptions.model_validate({name: resolved.value for name, resolved in made.resolved.items()})
    for alternative in made.alternatives:
        FinetuningOptions.model_validate(alternative.changes)
