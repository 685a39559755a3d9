"""How long runs take: the closed form, a calibration, a trace, and what surrounds the steps."""

from dataclasses import astuple, replace

import pytest

from app.contracts.calibration import SCHEMA, Calibration, Calibrations, MeasuredStep, MeasuredWork, find_torch_version
from app.contracts.hardware import Device
from app.contracts.options import Method
from app.contracts.plan import ModelShape
from app.contracts.trace import Affine, Hump, StepCosts, TraceProfile, TraceRequest
from app.planner.calibrated import CPU_SHARES, complete, derive_pace, find_device_pace
from app.planner.gpus import find_rates, rate_device
from app.planner.memory import count_weight_bytes
from app.planner.pace import Pace
from app.planner.run_shape import RowLengths, RunShape
from app.planner.shapes import SHAPES, count_adapter_params, find_linears
from app.planner.time import estimate_seconds, find_costs
from app.planner.work import count_forward_work, count_step_work

SMOL = SHAPES["HuggingFaceTB/SmolLM2-135M"]
GPT2 = SHAPES["gpt2"]
CPU = Device(
    id="cpu", kind="cpu", name="A processor", memory_total_bytes=16 << 30, memory_free_bytes=12 << 30, bf16=True, cores=2
)
LENGTHS = RowLengths(tuple(range(60, 81)), measured=True, trained_share=0.5)
TRUE = Pace(3e-12, 9e-12, 5e-12, 1.5e-10, 4e-11, 1e-10, 3e-5)
"""The paces of an invented processor."""
SIZES = ((1, 64, False), (8, 64, False), (1, 512, False), (4, 128, True), (1, 640, False))


def run_of(shape: ModelShape, **changes: object) -> RunShape:
    adapter = count_adapter_params(shape, 16, list(find_linears(shape)))
    run = RunShape("cpu", 8, 80, "bfloat16", "none", adapter, 16, checkpointing=False)
    return replace(run, **changes)  # type: ignore[arg-type]


def seconds(shape: ModelShape, run: RunShape, lengths: RowLengths = LENGTHS, **changes: object) -> float:
    arguments = {"train_rows": 64, "heldout_rows": 0, "epochs": 1, "accumulation": 1, "max_length": 512} | changes
    return estimate_seconds(shape, run, rate_device(CPU), lengths, **arguments).p50  # type: ignore[arg-type]


def calibration_of(pace: Pace, **changes: object) -> Calibration:
    """Return what a device with these paces would have measured, the counted work being that of the closed form."""
    steps = []
    for shape in (SMOL, GPT2, SHAPES["Qwen/Qwen2.5-0.5B"]):
        for dtype in ("bfloat16", "float32"):
            for batch, length, checkpointing in (
                (1, 64, False),
                (8, 64, False),
                (1, 512, False),
                (4, 128, True),
                (1, 640, False),
            ):
                run = run_of(shape, dtype=dtype, micro_batch=batch, length=length, checkpointing=checkpointing)
                size = (batch, length, 0.5 * batch * length)
                work, forward = count_step_work(shape, run).at(*size), count_forward_work(shape, run).at(*size)
                steps.append(
                    MeasuredStep(
                        shape=shape, rank=16, target_modules=list(find_linears(shape)), dtype=dtype, micro_batch=batch,
                        length=length, trained_share=0.5, checkpointing=checkpointing, seconds=pace.seconds(work),
                        work=read(work), forward_seconds=pace.seconds(forward), forward_work=read(forward),
                    )
                )  # fmt: skip
    fields = {
        "schema_version": SCHEMA, "device_kind": "cpu", "device_id": "cpu", "device_name": CPU.name, "driver_version": None,
        "torch_version": find_torch_version(), "threads": 2, "lanes": 1, "fused_attention": False, "alone": 1.0,
        "measured_at": "2026-11-22T17:00:00Z", "seconds": 12.0,
        "half_gflops": 400.0, "full_gflops": 150.0, "bandwidth_gb": 10.0, "launch_seconds": 5e-6, "products": [],
        "steps": steps, "start_seconds": 4.0, "load_bytes_per_second": 1e9, "load_fixed_seconds": 0.5, "save_seconds": 0.1,
        "optimizer_bytes_per_second": 1e9, "context_bytes": None, "noise": 1.1,
        "unrest": 1.1, "others_share": 0.0, "series": 1, "restless": False,
    }  # fmt: skip
    return Calibration.model_validate(fields | changes)


def read(work: object) -> MeasuredWork:
    return MeasuredWork(**{name: getattr(work, name) for name in MeasuredWork.model_fields})


def profile_of(shape: ModelShape, run: RunShape, factor: float) -> TraceProfile:
    """Return a trace that counted `factor` times the work of the closed form."""
    none = Affine()

    def affine(terms: tuple[float, ...]) -> Affine:
        scaled = [factor * value for value in terms]
        return Affine(
            constant=scaled[0], per_length=scaled[1], per_length_squared=scaled[2], per_token=scaled[3],
            per_place=scaled[4], per_place_length=scaled[5], per_label=scaled[6],
        )  # fmt: skip

    def costs(work: object) -> StepCosts:
        return StepCosts(**{name: affine(getattr(work, name)) for name in StepCosts.model_fields})

    request = TraceRequest(
        config="{}", rank=run.rank, target_modules=["q_proj"], dtype=run.dtype, checkpointing=run.checkpointing, device="cpu"
    )
    empty = dict.fromkeys(("weights", "adapter", "gradients", "optimizer", "activations", "logits", "workspace"), none)
    return TraceProfile(
        request=request, layers=shape.layers, params=shape.params, adapter_params=run.adapter_params, chunk_rows=64,
        humps=[Hump(phase="forward", **empty)], micro=costs(count_step_work(shape, run)),
        evaluation=costs(count_forward_work(shape, run)), update=costs(count_forward_work(shape, run)), trace_seconds=1.0,
        versions={},
    )  # fmt: skip


def test_preferences_take_the_time_of_all_that_they_read() -> None:
    """DPO learns two rows a pair and reads both once; KTO learns one row, and reads it once and a foreign answer twice."""
    run = run_of(SMOL)

    def one_epoch(method: Method, **changes: object) -> float:
        run_so = replace(run, method=method)
        return seconds(SMOL, run_so, **changes) - seconds(SMOL, run_so, train_rows=0)

    learned = one_epoch("sft")
    assert one_epoch("pretraining") == one_epoch("classification") == learned
    read = seconds(SMOL, run, heldout_rows=64) - seconds(SMOL, run)  # before the epoch and after it
    dpo, kto = one_epoch("dpo"), one_epoch("kto")
    assert dpo == pytest.approx(2 * learned + read, rel=0.1)
    assert kto == pytest.approx(learned + 1.5 * read, rel=0.1)
    assert one_epoch("kto", heldout_rows=64) > kto + 2.9 * read  # two passes before the start, two rows in both evaluations


def test_each_further_step_takes_the_same_time() -> None:
    run = run_of(SMOL)
    few, more, most = (seconds(SMOL, run, train_rows=rows) for rows in (64, 128, 256))
    assert most - more == pytest.approx(2 * (more - few), rel=1e-6)
    assert more > 1.5 * (few - seconds(SMOL, run, train_rows=0))


def test_a_processor_s_probe_that_has_no_time_for_a_row_costs_what_judging_it_takes() -> None:
    run, long = run_of(SMOL, micro_batch=1, length=8000), RowLengths((8000,) * 21, measured=True)
    slow = calibration_of(Pace(*(50 * value for value in astuple(TRUE))), measured_at="slow")
    device = find_device_pace(SMOL, run, rate_device(CPU), slow)
    step = find_costs(SMOL, run, device)[0].seconds(1, 8000)
    start, once = (seconds(SMOL, run, long, train_rows=rows, max_length=8000, calibration=slow) for rows in (0, 1))
    assert step > 100
    short = find_costs(SMOL, run, device)[0].seconds(1, 64)
    assert once - start - step == pytest.approx(2 * short, rel=0.1)


def test_evaluations_before_and_after_every_epoch_are_counted_and_cost_less_than_training() -> None:
    run = run_of(SMOL)
    none, some = (seconds(SMOL, run, train_rows=64, heldout_rows=rows, epochs=2) for rows in (0, 64))
    start = seconds(SMOL, run, train_rows=0)
    one_evaluation, one_epoch = (some - none) / 3, (none - start) / 2
    assert 0.3 * one_epoch < one_evaluation < 0.6 * one_epoch


def test_recomputation_costs_one_more_forward_pass() -> None:
    run = run_of(SMOL)
    plain, again = (count_step_work(SMOL, replace(run, checkpointing=on)).at(8, 128, 512) for on in (False, True))
    assert 1.3 < again.flops_half / plain.flops_half < 1.5


def test_tokens_without_a_label_do_not_pass_the_output_head() -> None:
    run = run_of(SMOL)
    work = count_step_work(SMOL, run)
    assert work.at(8, 128, 1024).flops_half - work.at(8, 128, 0).flops_half == 4.0 * SMOL.hidden * SMOL.vocab * 1024


def test_a_calibration_is_met_by_the_very_steps_that_it_measured() -> None:
    measured = calibration_of(TRUE)
    for dtype in ("bfloat16", "float32"):
        run = run_of(SMOL, dtype=dtype)
        found = find_device_pace(SMOL, run, rate_device(CPU), measured)
        work = count_step_work(SMOL, run).at(8, 128, 512)
        assert found.closed.seconds(work) == pytest.approx(TRUE.seconds(work), rel=0.05)
        assert found.traced.seconds(work) == pytest.approx(TRUE.seconds(work), rel=0.05)


def test_a_calibration_replaces_the_table_for_start_loading_and_saving_too() -> None:
    run = run_of(SMOL)
    quick, slow = (
        seconds(SMOL, run, train_rows=0, calibration=calibration_of(TRUE, start_seconds=start, measured_at=f"{start}"))
        for start in (2.0, 9.0)
    )
    assert slow - quick == pytest.approx(7.0)
    measured = calibration_of(TRUE)  # 1e9 bytes/s
    half, full = (replace(run, dtype=dtype) for dtype in ("bfloat16", "float32"))
    loaded = [count_weight_bytes(SMOL, kind) / 1e9 for kind in (half, full)]
    longer = seconds(SMOL, full, train_rows=0, calibration=measured) - seconds(SMOL, half, train_rows=0, calibration=measured)
    assert longer == pytest.approx(1.5 * loaded[1] - loaded[0]), "weights that are widened take longer"


def test_a_traced_step_counts_and_its_error_corrects_the_variants_that_were_not_traced() -> None:
    run = run_of(SMOL)
    measured = calibration_of(TRUE)
    device = find_device_pace(SMOL, run, rate_device(CPU), measured)
    profile = profile_of(SMOL, run, factor=1.5)
    closed = find_costs(SMOL, run, device)[0].seconds(8, 80)
    assert find_costs(SMOL, run, device, [profile])[0].seconds(8, 80) == pytest.approx(1.5 * closed, rel=0.02)
    other = replace(run, checkpointing=True)
    untraced = find_costs(SMOL, other, device)[0].seconds(8, 80)
    assert find_costs(SMOL, other, device, [profile])[0].seconds(8, 80) == pytest.approx(1.5 * untraced, rel=0.02)


def test_p90_lies_above_p50_and_is_widest_where_lengths_are_guessed() -> None:
    run, rates = run_of(SMOL), rate_device(CPU)
    arguments = {"train_rows": 64, "heldout_rows": 0, "epochs": 1, "accumulation": 1, "max_length": 512}
    known = estimate_seconds(SMOL, run, rates, LENGTHS, calibration=calibration_of(TRUE), **arguments)  # type: ignore[arg-type]
    guessed = estimate_seconds(SMOL, run, rates, replace(LENGTHS, measured=False), calibration=calibration_of(TRUE), **arguments)  # type: ignore[arg-type]
    assert 1.0 < known.p90 / known.p50 < guessed.p90 / guessed.p50


def test_a_slower_card_takes_longer_and_4_bits_take_longer_than_16() -> None:
    shape = SHAPES["meta-llama/Llama-3.1-8B"]
    run = run_of(shape, device="cuda", compute_capability=8)
    times = []
    for name in ("NVIDIA H100 80GB HBM3", "NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 3060"):
        arguments = {"train_rows": 64, "heldout_rows": 0, "epochs": 1, "accumulation": 1, "max_length": 512}
        times.append(estimate_seconds(shape, run, find_rates(name), LENGTHS, **arguments).p50)  # type: ignore[arg-type]
    assert times == sorted(times)
    packed = replace(run, quantization="nf4")
    device = find_device_pace(shape, run, find_rates("Tesla T4"), None)
    assert find_costs(shape, packed, device)[0].seconds(8, 80) > find_costs(shape, run, device)[0].seconds(8, 80)


def test_the_step_factor_compares_measured_steps_with_the_table() -> None:
    rates = rate_device(CPU)
    table = derive_pace(rates, CPU_SHARES)
    slow = Pace(*(3 * value for value in astuple(table)))
    assert complete(calibration_of(slow), rates).step_factor == pytest.approx(3.0, rel=1e-6)


def test_a_calibration_counts_for_its_device_and_build_only_and_a_newer_one_replaces_it() -> None:
    kept = Calibrations().replace(calibration_of(TRUE))
    assert kept.find(CPU, None) is not None
    assert kept.find(CPU.model_copy(update={"name": "Another processor"}), None) is None
    assert Calibrations().replace(calibration_of(TRUE, torch_version="0.0")).find(CPU, None) is None
    assert Calibrations().replace(calibration_of(TRUE, schema_version=SCHEMA + 1)).find(CPU, None) is None
    newer = kept.replace(calibration_of(TRUE, measured_at="2026-11-23T00:00:00Z"))
    assert [entry.measured_at for entry in newer.calibrations] == ["2026-11-23T00:00:00Z"]


def test_a_card_is_measured_anew_after_a_change_of_its_driver() -> None:
    card = CPU.model_copy(update={"id": "cuda:0", "kind": "cuda", "name": "Tesla T4"})
    kept = Calibrations().replace(calibration_of(TRUE, device_kind="cuda", device_name="Tesla T4", driver_version="550.1"))
    assert kept.find(card, "550.1") is not None
    assert kept.find(card, "580.0") is None
