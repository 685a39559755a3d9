"""The measurement of a device, on this processor with two tiny models."""

import os
import subprocess
import sys
import time

import pytest

from app.contracts.calibration import Calibration, MeasuredStep
from app.contracts.hardware import Device
from app.core.errors import NotFound
from app.planner.calibrated import list_samples
from app.training.calibration import estimate, raw, variants
from app.training.calibration.estimate import Series, Timing, choose_series, estimate_seconds, measure_sensitivity
from app.training.calibration.measure import choose_half, measure
from app.training.calibration.others import BusyOthers
from app.training.calibration.variants import Variant


@pytest.fixture(scope="module")
def measured() -> Calibration:
    with pytest.MonkeyPatch.context() as patch:
        models = {"older": (128, 4, 2, 256), "small": (256, 640, 8, 2, 32, 2, 512), "wide": (512, 1536, 8, 2, 64, 1, 512)}
        patch.setitem(variants.MODELS, "small", models)
        chosen = (
            Variant("older", 2, 32),
            Variant("small", 2, 32, forward=True),
            Variant("small", 2, 32, checkpointing=True, full=False),
        )
        patch.setitem(variants.VARIANTS, "small", chosen)
        patch.setitem(raw.COPY_BYTES, "cpu", 1 << 20)
        patch.setitem(raw.PRODUCT_SIZES, "cpu", ((16, 32, 32), (32, 64, 64)))
        return measure("cpu", 0.0, repeat=False)[0]


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
        counted = list_samples(step, "cpu", traced=True, fused_attention=measured.fused_attention)[0].work
        closed = list_samples(step, "cpu", traced=False, fused_attention=measured.fused_attention)[0].work
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


def make_timings(slowness: list[float], *, seconds: float, exponent: float) -> list[Timing]:
    """Return times of a piece that follows the machine's slowness with this exponent."""
    return [Timing(0, seconds * slow**exponent, 0.01 * slow) for slow in slowness]


def test_a_slow_moment_of_the_machine_is_taken_out_of_the_times_that_it_hit() -> None:
    pieces = [
        make_timings([1.0, 1.1, 2.0], seconds=0.1, exponent=0.5),
        make_timings([1.9, 1.0, 2.1], seconds=0.3, exponent=0.5),
    ]
    sensitivity = measure_sensitivity(pieces)
    assert sensitivity == pytest.approx(0.5, rel=1e-6)
    usual = 0.01
    assert [estimate_seconds(timings, usual, sensitivity) for timings in pieces] == pytest.approx([0.1, 0.3], rel=1e-6)


def test_one_disturbed_time_changes_nothing() -> None:
    timings = [Timing(0, seconds, 0.01) for seconds in (0.1, 0.1, 5.0)]
    assert estimate_seconds(timings, 0.01, measure_sensitivity([timings])) == pytest.approx(0.1)


def test_times_that_grow_while_the_reference_shrinks_are_not_turned_round() -> None:
    assert measure_sensitivity([make_timings([1.0, 2.0], seconds=0.1, exponent=-1.0)]) == 0.0


def series(number: int, references: list[float], others_share: float = 0.0) -> Series:
    return Series(number=number, rounds=3, references=tuple(references), others_share=others_share)


def test_a_machine_is_restless_when_its_reference_swings_or_others_use_it() -> None:
    assert not series(0, [0.010, 0.011, 0.009, 0.011, 0.010]).restless
    assert series(0, [0.010, 0.010, 0.010, 0.030, 0.030]).restless
    assert series(0, [0.010] * 5, others_share=0.4).restless


def test_the_calm_series_counts_and_without_one_all_do() -> None:
    calm, swinging, busy = series(1, [0.01] * 5), series(0, [0.01, 0.01, 0.03, 0.03]), series(1, [0.01] * 5, 0.5)
    assert choose_series([swinging, calm]) == [calm]
    assert choose_series([swinging, busy]) == [swinging, busy]


def test_a_restless_machine_is_measured_twice_and_the_result_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(variants.MODELS, "small", {"small": (64, 96, 2, 1, 32, 1, 64), "wide": (128, 384, 2, 1, 64, 1, 64)})
    monkeypatch.setitem(variants.VARIANTS, "small", (Variant("small", 1, 8),))
    monkeypatch.setitem(raw.COPY_BYTES, "cpu", 1 << 20)
    monkeypatch.setitem(raw.PRODUCT_SIZES, "cpu", ((16, 32, 32),))
    monkeypatch.setattr(estimate, "RESTLESS", 0.0)
    found, times = measure("cpu", 0.0)
    assert (found.series, found.restless) == (2, True)
    assert {timing[0] for timing in times["copy"]} == {0, 1}


def test_the_work_of_another_program_is_seen_and_the_own_work_is_not() -> None:
    own = BusyOthers()
    ended = time.process_time() + 0.3
    while time.process_time() < ended:
        pass
    alone = own.measure_share()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        beside = BusyOthers()
        time.sleep(0.6)
        seen = beside.measure_share()
        other.kill()
    assert seen > alone + 0.2 / len(os.sched_getaffinity(0)) or alone > 0.5
