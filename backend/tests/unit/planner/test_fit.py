"""Plans: what is split, what is lowered, what is said, and that nothing is ever refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.contracts.hardware import Device
from app.contracts.options import OPTION_NAMES, FinetuningOptions
from app.contracts.plan import Plan
from app.core.messages import LANGUAGES, localise
from app.planner.fit import PlanRequest, make_plan
from app.planner.run_shape import RowLengths
from app.planner.shapes import find_shape
from app.services.finetuning_service import MODEL_CONFIGS
from app.services.resolution import resolve_values

GIB = 1 << 30


def device(gigabytes: float, kind: str = "cuda", capability: tuple[int, int] = (8, 6), name: str = "RTX 3090") -> Device:
    size = round(gigabytes * GIB)
    card = kind == "cuda"
    return Device.model_validate(
        {
            "id": "cuda:0" if card else "cpu",
            "kind": kind,
            "name": name if card else "CPU",
            "memory_total_bytes": size,
            "memory_free_bytes": size,
            "bf16": capability >= (8, 0),
            "compute_capability": capability if card else None,
            "cores": None if card else 2,
        }
    )


def rows_of(length: int) -> RowLengths:
    return RowLengths((length,) * 21, measured=True)


def plan_request(
    model_id: str = "gpt2",
    where: Device | None = None,
    lengths: RowLengths | None = None,
    train_rows: int = 200,
    nf4_usable: bool = True,
    **chosen: object,
) -> PlanRequest:
    entry = MODEL_CONFIGS[model_id]
    where = where or device(24)
    return PlanRequest(
        model_id=model_id,
        model_name=entry.display_name,
        shape=find_shape(model_id),
        vram_required_gb=entry.vram_required_gb,
        device=where,
        available_bytes=where.memory_free_bytes,
        values=resolve_values(FinetuningOptions.model_validate(chosen), entry),
        lengths=lengths or rows_of(512),
        train_rows=train_rows,
        heldout_rows=20,
        nf4_usable=nf4_usable,
    )


def plan(
    model_id: str = "gpt2",
    where: Device | None = None,
    lengths: RowLengths | None = None,
    train_rows: int = 200,
    nf4_usable: bool = True,
    **chosen: object,
) -> Plan:
    return make_plan(plan_request(model_id, where, lengths, train_rows, nf4_usable, **chosen))


def value(made: Plan, name: str) -> object:
    return made.resolved[name].value


def keys(made: Plan) -> list[str]:
    return [notice.key for notice in made.reasons]


def test_with_room_nothing_of_the_model_s_values_changes() -> None:
    made = plan()
    assert made.verdict == "fits"
    assert (value(made, "batch_size"), value(made, "gradient_accumulation_steps"), value(made, "max_length")) == (8, 2, 512)
    assert {made.resolved[name].origin for name in ("batch_size", "learning_rate", "max_length", "lora_rank")} == {"model"}
    assert made.warnings == []
    assert made.parts.total == made.peak_bytes <= made.peak_bytes_upper <= made.available_bytes


def test_a_small_card_gets_smaller_pieces_of_the_same_batch() -> None:
    made = plan(where=device(1.1))
    assert made.verdict == "fits"
    assert int(str(value(made, "batch_size"))) < 8
    assert int(str(value(made, "batch_size"))) * int(str(value(made, "gradient_accumulation_steps"))) == 16
    assert made.resolved["batch_size"].origin == "planner"
    assert made.resolved["batch_size"].params["batch"] == 8
    assert "batch_split" in keys(made)


def test_a_user_s_batch_is_split_as_well_and_keeps_its_product() -> None:
    made = plan("gpt2-large", device(3.0), batch_size=12, gradient_accumulation_steps=3)
    assert int(str(value(made, "batch_size"))) < 12
    assert int(str(value(made, "batch_size"))) * int(str(value(made, "gradient_accumulation_steps"))) == 36


def test_activations_are_recomputed_only_where_memory_asks_for_it() -> None:
    roomy, narrow = plan("meta-llama/Llama-2-7b-hf", device(80)), plan("meta-llama/Llama-2-7b-hf", device(16))
    assert value(roomy, "gradient_checkpointing") is False
    assert value(narrow, "gradient_checkpointing") is True
    assert narrow.verdict == "fits"
    assert "gradient_checkpointing.on" in keys(narrow)
    assert narrow.seconds_p50 > roomy.seconds_p50


def test_a_choice_about_recomputation_is_kept_even_if_it_does_not_fit() -> None:
    made = plan("meta-llama/Llama-2-7b-hf", device(13.0), gradient_checkpointing=False, quantization="none")
    assert made.resolved["gradient_checkpointing"].origin == "user"
    assert value(made, "gradient_checkpointing") is False
    assert made.verdict == "does_not_fit"


def test_shorter_rows_lower_the_model_s_length_but_not_the_user_s() -> None:
    automatic = plan(lengths=rows_of(90))
    assert value(automatic, "max_length") == 90
    assert automatic.resolved["max_length"].reason == "max_length_lowered.rows"
    chosen = plan(lengths=rows_of(90), max_length=400)
    assert value(chosen, "max_length") == 400
    assert chosen.resolved["max_length"].origin == "user"


def test_estimated_or_sampled_lengths_never_cut_a_row() -> None:
    for lengths in (RowLengths((90,) * 21, measured=False), RowLengths((90,) * 21, measured=True, complete=False)):
        assert value(plan(lengths=lengths), "max_length") == 512
    assert "lengths_estimated" in keys(plan(lengths=RowLengths((90,) * 21, measured=False)))


def test_no_model_is_asked_to_read_beyond_its_context_not_even_by_the_user() -> None:
    made = plan(max_length=5000, lengths=rows_of(3000))
    assert value(made, "max_length") == 1024
    assert made.resolved["max_length"].params == {"before": 5000, "after": 1024}
    assert "rows_too_long.truncate" in keys(made)


def test_length_is_lowered_for_memory_only_when_nothing_else_fits() -> None:
    long = rows_of(2000)
    smallest = plan("Qwen/Qwen3-0.6B", device(80), long, batch_size=1, gradient_checkpointing=True, quantization="nf4")
    least = smallest.peak_bytes / GIB
    enough = plan("Qwen/Qwen3-0.6B", device(least * 1.01), long)
    assert (enough.verdict, value(enough, "max_length")) == ("tight", 512)
    lowered = plan("Qwen/Qwen3-0.6B", device(least * 0.98), long)
    assert lowered.resolved["max_length"].reason == "max_length_lowered.memory"
    assert value(lowered, "gradient_checkpointing") is True
    assert value(lowered, "batch_size") == 1
    assert lowered.verdict in {"fits", "tight"}
    assert lowered.cut_rows_share == 1.0
    kept = plan("Qwen/Qwen3-0.6B", device(least * 0.98), long, max_length=512)
    assert value(kept, "max_length") == 512
    assert kept.verdict == "does_not_fit"


def test_too_little_memory_is_a_warning_with_numbers_and_still_a_plan() -> None:
    made = plan("Qwen/Qwen3-8B", device(2.0))
    assert made.verdict == "does_not_fit"
    assert not made.fits
    assert [warning.code for warning in made.warnings] == ["does_not_fit"]
    assert made.warnings[0].params["available_gb"] == 2.0
    assert made.seconds_p50 > 0
    assert value(made, "batch_size") == 1


def test_between_prediction_and_bound_a_plan_is_tight() -> None:
    peak = plan("gpt2", device(80), batch_size=1, gradient_checkpointing=True).peak_bytes
    made = plan("gpt2", device(peak / GIB * 1.01), batch_size=1, gradient_checkpointing=True)
    assert made.verdict == "tight"
    assert [warning.code for warning in made.warnings] == ["tight"]
    assert made.fits


@pytest.mark.parametrize(
    ("where", "dtype"),
    [
        (device(24), "bfloat16"),
        (device(16, capability=(7, 5), name="Tesla T4"), "float16"),
        (device(11, capability=(6, 1), name="GTX 1080 Ti"), "float32"),
        (device(16, kind="cpu", capability=(8, 0)), "bfloat16"),
        (device(16, kind="cpu", capability=(0, 0)), "float32"),
    ],
)
def test_precision_follows_the_device(where: Device, dtype: str) -> None:
    made = plan(where=where)
    assert value(made, "dtype") == dtype
    assert made.resolved["dtype"].origin == "planner"
    assert value(plan(where=where, dtype="float32"), "dtype") == "float32"


def test_four_bits_need_a_card_and_the_library_unless_the_user_insists() -> None:
    mistral = "mistralai/Mistral-7B-v0.3"
    assert value(plan(mistral, device(12)), "quantization") == "nf4"
    assert value(plan(mistral, device(12), nf4_usable=False), "quantization") == "none"
    assert plan(mistral, device(12)).resolved["quantization"].origin == "model"
    roomy = plan(mistral, device(24))
    assert (value(roomy, "quantization"), roomy.resolved["quantization"].reason) == ("none", "quantization_off.fits")
    assert plan(mistral, device(64, kind="cpu")).resolved["quantization"].reason == "quantization_off.processor"
    assert value(plan(mistral, device(64, kind="cpu"), quantization="nf4"), "quantization") == "nf4"


def test_four_bit_weights_take_the_bytes_that_bitsandbytes_stores() -> None:
    made = plan("mistralai/Mistral-7B-v0.3", device(24), quantization="nf4")
    blocks = 32 * (4096 * 4096 * 2 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
    rest = 7_248_023_552 - blocks
    assert made.parts.weights == pytest.approx(0.51587 * blocks + 2 * rest, rel=1e-3)


def test_a_data_set_without_rows_gets_a_plan_that_says_so() -> None:
    made = plan(train_rows=0, lengths=RowLengths((), measured=False))
    assert made.steps == 0
    assert made.seconds_p50 > 0
    assert "rows_missing" in keys(made)


def test_a_batch_larger_than_the_data_set_is_said_and_counted_as_one_step_an_epoch() -> None:
    made = plan(train_rows=5, num_epochs=3)
    assert made.steps == 3
    assert "effective_batch_larger" in keys(made)


def test_steps_are_epochs_times_rows_over_the_effective_batch_rounded_up() -> None:
    assert plan(train_rows=100).steps == 5 * 7
    assert plan(train_rows=96, num_epochs=2).steps == 2 * 6


def test_one_row_of_a_hundred_thousand_tokens_is_cut_and_said() -> None:
    quantiles = (*([100] * 20), 100_000)
    made = plan(lengths=RowLengths(quantiles, measured=True))
    assert value(made, "max_length") == 512
    notice = next(reason for reason in made.reasons if reason.key == "rows_too_long.truncate")
    assert notice.params["percent"] == 5


def test_longer_rows_more_rows_and_more_epochs_take_longer() -> None:
    base = plan(lengths=rows_of(128)).seconds_p50
    assert plan(lengths=rows_of(256)).seconds_p50 > base
    assert plan(lengths=rows_of(128), train_rows=2000).seconds_p50 > base
    assert plan(lengths=rows_of(128), num_epochs=50).seconds_p50 > base


def test_a_faster_card_is_faster_and_an_unknown_one_is_said_to_be_guessed() -> None:
    slow, fast = plan("gpt2-xl", device(24, name="RTX 3060")), plan("gpt2-xl", device(24, name="NVIDIA GeForce RTX 4090"))
    assert fast.seconds_p50 < slow.seconds_p50
    assert "card_unknown" in keys(plan(where=device(24, name="NVIDIA Unheard-of 9000")))


@settings(max_examples=20, deadline=None)
@given(
    model_id=st.sampled_from(sorted(MODEL_CONFIGS)),
    gigabytes=st.floats(0.0, 200.0),
    kind=st.sampled_from(["cuda", "cpu"]),
    length=st.integers(1, 100_000),
    train_rows=st.integers(0, 10**9),
    batch_size=st.none() | st.integers(1, 1024),
    accumulation=st.none() | st.integers(1, 4096),
    max_length=st.none() | st.integers(8, 131072),
    rank=st.none() | st.integers(1, 1024),
)
def test_no_values_however_absurd_are_refused_and_the_product_always_holds(
    model_id: str, gigabytes: float, kind: str, length: int, train_rows: int, batch_size: int | None, accumulation: int | None,
    max_length: int | None, rank: int | None,
) -> None:  # fmt: skip
    made = plan(
        model_id,
        device(gigabytes, kind),
        rows_of(length),
        train_rows,
        batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        max_length=max_length,
        lora_rank=rank,
    )
    entry = MODEL_CONFIGS[model_id]
    asked = (batch_size or entry.batch_size) * (accumulation or entry.gradient_accumulation_steps)
    micro, steps = int(str(value(made, "batch_size"))), int(str(value(made, "gradient_accumulation_steps")))
    assert micro * steps == asked
    assert micro <= (batch_size or entry.batch_size)
    assert set(made.resolved) == set(OPTION_NAMES)
    # The method follows from the rows' form, which this data set of lengths has not.
    assert all(resolved.value is not None for name, resolved in made.resolved.items() if name != "method")
    assert min(made.parts.model_dump().values()) >= 0
    assert 0 < made.seconds_p50 <= made.seconds_p90
    FinetuningOptions.model_validate({name: resolved.value for name, resolved in made.resolved.items()})
    for notice in [*made.reasons, *made.warnings]:
        for language in LANGUAGES:
            assert localise(notice.key, language, **notice.params)[0]
