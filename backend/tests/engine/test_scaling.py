"""float16: gradients travel multiplied, and an overflow costs a repetition, never a step."""

from pathlib import Path

import pytest
import torch

from app.contracts.events import Noted
from app.datasets.render import Renderer
from app.training import scaling
from app.training.assembly import assemble, finish_gradient
from app.training.checkpoint import RunState, list_checkpoints
from app.training.engine import train
from app.training.gradient import Computer, Limits
from app.training.loading import load_model
from app.training.scaling import LossScale
from app.training.stopping import Stopped, StopWatch
from tests.engine.test_engine import StopAfter, adapter, run, steps_of
from tests.engine.tiny import GPT2_TARGETS, encode, examples, make_job

TARGETS = {"llama": None, "gpt2": GPT2_TARGETS}


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_float16_trains_like_float32(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = request.getfixturevalue(name)
    losses = {}
    for dtype in ("float16", "float32"):
        job_dir = make_job(
            tmp_path / dtype, folder, train=examples(16), heldout=[], dtype=dtype, targets=TARGETS[name], learning_rate=5e-3
        )
        run(job_dir)
        losses[dtype] = [event.loss for event in steps_of(job_dir)]
        assert not [event for event in job_dir.read_events() if isinstance(event, Noted) and "not_finite" in event.key]
    assert losses["float16"] == pytest.approx(losses["float32"], rel=5e-3)


def test_the_scale_does_not_change_the_gradient_in_fp32(llama: Path, tmp_path: Path) -> None:
    job_dir = make_job(tmp_path / "job", llama, train=examples(4), heldout=[])
    rows = encode(job_dir).rows[:]
    gradients = []
    for factor in (1.0, 1024.0):
        torch.manual_seed(2)
        built = assemble(load_model(job_dir.read_job(), torch.device("cpu")), job_dir.read_job().lora, kind="cpu")
        pad = Renderer.load(llama).pad_id
        limits = Limits(rows=2, tokens=None)
        compute = Computer(
            built.head, built.parameters, torch.device("cpu"), pad, 256, limits, job_dir, lambda: None, LossScale(factor)
        )
        compute.accumulate_gradient(rows)
        finish_gradient(built.parameters, factor, 1e9)
        gradients.append([parameter.grad for parameter in built.parameters])
    for plain, scaled in zip(*gradients, strict=True):
        assert plain is not None and scaled is not None
        assert (plain - scaled).norm() <= 1e-6 * plain.norm()


def test_an_overflow_halves_the_scale_and_repeats_the_rows(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first scale is far beyond float16; the run still takes every step, in the same order, to the same result."""
    options = {"train": examples(16), "heldout": [], "dtype": "float16", "dropout": 0.2, "learning_rate": 5e-3}
    usual = make_job(tmp_path / "usual", llama, **options)
    run(usual)
    lowered: list[float] = []
    lower = LossScale.lower

    def noted(self: LossScale) -> bool:
        lowered.append(self.value)
        return lower(self)

    monkeypatch.setattr(LossScale, "lower", noted)
    monkeypatch.setattr(scaling, "START", 2.0**22)
    high = make_job(tmp_path / "high", llama, **options)
    run(high)
    assert lowered[0] == 2.0**22 and len(lowered) >= 5
    assert [event.step for event in steps_of(high)] == [1, 2, 3, 4]
    assert [event.loss for event in steps_of(high)] == pytest.approx([event.loss for event in steps_of(usual)], rel=2e-3)
    assert not [event for event in high.read_events() if isinstance(event, Noted) and "not_finite" in event.key]


def test_a_resumed_run_goes_on_with_its_scale(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "STEADY_STEPS", 2)
    options = {"train": examples(16), "heldout": [], "dtype": "float16", "num_epochs": 3, "learning_rate": 5e-3}
    whole, parts = make_job(tmp_path / "whole", llama, **options), make_job(tmp_path / "parts", llama, **options)
    run(whole)
    with pytest.raises(Stopped):
        train(parts, StopAfter(parts, 3, parts.pause_file))
    (checkpoint,) = list_checkpoints(parts.checkpoints)
    state = RunState.model_validate_json((checkpoint / "state.json").read_bytes())
    assert (state.loss_scale, state.steady_steps) == (2 * scaling.START, 1)
    parts.pause_file.unlink()
    train(parts, StopWatch(parts))
    assert [event.loss for event in steps_of(parts)] == [event.loss for event in steps_of(whole)]
    assert all(torch.equal(tensor, adapter(whole)[key]) for key, tensor in adapter(parts).items())


def test_the_scale_moves_between_its_bounds_and_only_for_float16() -> None:
    fixed = LossScale.of("bfloat16")
    assert not fixed.lower()
    for _ in range(scaling.STEADY_STEPS):
        fixed.count_good_step()
    assert fixed.value == 1
    moving = LossScale.of("float16")
    while moving.lower():
        pass
    assert moving.value == scaling.SMALLEST
    for _ in range(100 * scaling.STEADY_STEPS):
        moving.count_good_step()
    assert moving.value == scaling.LARGEST
