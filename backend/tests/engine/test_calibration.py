"""The measurement of a device, on this processor with two tiny models."""

import pytest

from app.contracts.calibration import Calibration, MeasuredStep
from app.contracts.hardware import Device
from app.core.errors import NotFound
from app.planner.calibrated import list_samples
from app.training import calibration, measuring
from app.training.calibration import Variant, choose_half, measure


@pytest.fixture(scope="module")
def measured() -> Calibration:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(calibration.MODELS, "small", {"older": (128, 4, 2, 256), "words": (256, 640, 8, 2, 32, 2, 512)})
        variants = (
            Variant("older", 2, 32),
            Variant("words", 2, 32, forward=True),
            Variant("words", 2, 32, checkpointing=True, full=False),
        )
        patch.setitem(calibration.VARIANTS, "small", variants)
        patch.setitem(measuring.COPY_BYTES, "cpu", 1 << 20)
        patch.setitem(measuring.PRODUCT_SIZES, "cpu", ((16, 32, 32), (32, 64, 64)))
        return measure("cpu", 0.0)


def select(measured: Calibration, dtype: str, family: str, *, checkpointing: bool = False) -> MeasuredStep:
    for step in measured.steps:
        if (step.dtype, step.shape.family, step.checkpointing) == (dtype, family, checkpointing):
            return step
    raise AssertionError(f"no {dtype} {family}")


def test_every_speed_is_measured_and_the_result_survives_its_way_as_json(measured: Calibration) -> None:
    for name in (
        "full_gflops", "bandwidth_gb", "launch_seconds", "load_bytes_per_second", "save_seconds",
        "optimizer_bytes_per_second", "step_factor",
    ):  # fmt: skip
        assert getattr(measured, name) > 0, name
    assert measured.noise >= 1.0
    assert measured.context_bytes is None
    assert Calibration.model_validate_json(measured.model_dump_json()) == measured


def test_the_counted_arithmetic_of_a_step_is_that_of_the_closed_form(measured: Calibration) -> None:
    for step in measured.steps:
        counted = list_samples(step, "cpu", traced=True)[0].work
        closed = list_samples(step, "cpu", traced=False)[0].work
        assert counted.flops_half + counted.flops_full == pytest.approx(closed.flops_half + closed.flops_full, rel=0.15)
        assert counted.flops_attention == pytest.approx(closed.flops_attention, rel=0.01)
        assert (counted.flops_half > 0) == (step.dtype != "float32")


def test_recomputation_is_counted_and_the_pass_without_gradients_does_less(measured: Calibration) -> None:
    dtype = measured.steps[0].dtype
    plain, again = (select(measured, dtype, "llama", checkpointing=on) for on in (False, True))
    assert again.work.flops_half + again.work.flops_full > 1.2 * (plain.work.flops_half + plain.work.flops_full)
    assert plain.forward_work is not None and plain.forward_seconds is not None
    assert plain.forward_work.launches < 0.6 * plain.work.launches
    assert select(measured, dtype, "gpt2").forward_seconds is None


def test_32_bits_are_measured_too_but_only_where_a_variant_says_so(measured: Calibration) -> None:
    assert [step.checkpointing for step in measured.steps if step.dtype == "float32"].count(False) == 2


def test_a_device_that_this_machine_lacks_is_refused() -> None:
    with pytest.raises(NotFound) as refused:
        measure("cuda:7")
    assert refused.value.params["device_id"] == "cuda:7"


@pytest.mark.parametrize(
    ("bf16", "capability", "half"),
    [(True, (8, 0), "bfloat16"), (False, (7, 5), "float16"), (False, (6, 1), None)],
)
def test_the_16_bit_type_is_the_one_that_a_job_would_use(bf16: bool, capability: tuple[int, int], half: str | None) -> None:
    card = Device(
        id="cuda:0", kind="cuda", name="A card", memory_total_bytes=1, memory_free_bytes=1, compute_capability=capability,
        bf16=bf16,
    )  # fmt: skip
    assert choose_half(card) == half
