"""Losses and gradients that are no numbers: seen in the same step, named, computed again, never logged."""

import json
import math
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from app.contracts.events import EvalLogged, Noted
from app.core.errors import Diverged
from app.storage.job_dir import JobDir
from app.training import repeating
from app.training.batching import Row
from app.training.checkpoint import list_checkpoints
from app.training.engine import train
from app.training.gradient import Computer
from app.training.stopping import StopWatch
from tests.engine.test_engine import adapter, run, steps_of
from tests.engine.test_methods import pairs
from tests.engine.tiny import examples, make_job


def changed(model: Path, folder: Path, **factors: float) -> Path:
    """Copy a model with all weights whose name ends so multiplied."""
    folder.mkdir()
    for file in model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    for name in tensors:
        for ending, factor in factors.items():
            if name.endswith(f"{ending}.weight"):
                tensors[name] *= factor
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def notes_of(job_dir: JobDir) -> dict[str, dict[str, object]]:
    return {event.key: event.params for event in job_dir.read_events() if isinstance(event, Noted)}


def assert_valid_json(job_dir: JobDir) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    for line in job_dir.events_file.read_text("utf-8").splitlines():
        logged = json.loads(line, parse_constant=refuse)
        if logged["kind"] == "step_logged":
            assert logged["loss"] > 0


def test_a_step_that_overflows_in_half_precision_is_taken_in_fp32(llama: Path, tmp_path: Path) -> None:
    """The MLP's product goes beyond 65,504 and comes back below it: infinite in float16, plain in fp32."""
    wide = changed(llama, tmp_path / "wide", gate_proj=3000.0, up_proj=3000.0, down_proj=1e-8)
    jobs = {}
    for dtype in ("float16", "float32"):
        jobs[dtype] = make_job(tmp_path / dtype, wide, train=examples(8), heldout=examples(3, start=8), dtype=dtype)
        run(jobs[dtype])
    half, full = jobs["float16"], jobs["float32"]
    assert notes_of(half)["not_finite.step"] == {"step": 2, "rows": "1, 2, 3, 4, 5, 6, 7, 8"}
    assert notes_of(half)["not_finite.heldout"]["rows"] == "9, 10, 11"
    assert not any(key.startswith("not_finite") for key in notes_of(full))
    assert [event.loss for event in steps_of(half)] == pytest.approx([event.loss for event in steps_of(full)], rel=1e-3)
    for key, tensor in adapter(half).items():
        assert (tensor - adapter(full)[key]).norm() <= 1e-2 * adapter(full)[key].norm(), key
    assert_valid_json(half)


def test_a_step_that_fails_in_fp32_too_ends_the_job_with_the_last_good_state_kept(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the third step on each gradient is infinite, as after a learning rate that was too high."""
    whole = make_job(tmp_path / "whole", llama, train=examples(16), heldout=[], num_epochs=2)
    with monkeypatch.context() as patch:
        done = StopWatch(whole)
        real = Computer.accumulate_gradient
        calls: list[int] = []

        def broken(self: Computer, rows: list[object]) -> float:
            calls.append(len(steps_of(whole)))
            loss = real(self, rows)  # type: ignore[arg-type]
            if len(steps_of(whole)) == 2:
                self.parameters[0].grad[0, 0] = math.inf  # type: ignore[index]
            return loss

        patch.setattr(Computer, "accumulate_gradient", broken)
        with pytest.raises(Diverged) as caught:
            train(whole, done)
    assert caught.value.key == "diverged.gradient"
    assert caught.value.params["step"] == 3
    assert len(str(caught.value.params["rows"]).split(", ")) == 8
    assert calls.count(2) == 2  # once as usual, once in fp32
    assert [event.step for event in steps_of(whole)] == [1, 2]
    assert [path.name for path in list_checkpoints(whole.checkpoints)] == ["checkpoint-2"]
    assert notes_of(whole)["last_good_kept"] == {"step": 2}
    assert_valid_json(whole)

    # What was kept is what two good steps gave: the run goes on from it to the same result as one that never failed.
    run(whole)
    undisturbed = make_job(tmp_path / "undisturbed", llama, train=examples(16), heldout=[], num_epochs=2)
    run(undisturbed)
    assert all(torch.equal(tensor, adapter(undisturbed)[key]) for key, tensor in adapter(whole).items())


def test_a_reference_that_overflows_in_half_precision_is_read_in_fp32(llama: Path, tmp_path: Path) -> None:
    wide = changed(llama, tmp_path / "wide", gate_proj=3000.0, up_proj=3000.0, down_proj=1e-8)
    jobs = {}
    for dtype in ("float16", "float32"):
        jobs[dtype] = make_job(tmp_path / dtype, wide, train=pairs(8), heldout=[], dtype=dtype, method="dpo")
        run(jobs[dtype])
    half, full = jobs["float16"], jobs["float32"]
    assert notes_of(half)["not_finite.reference"] == {"rows": "1, 2, 3, 4, 5, 6, 7, 8"}
    assert not any(key.startswith("not_finite") for key in notes_of(full))
    assert [event.loss for event in steps_of(half)] == pytest.approx([event.loss for event in steps_of(full)], rel=1e-3)


def test_a_model_that_gives_no_numbers_is_no_reference(llama: Path, tmp_path: Path) -> None:
    broken = changed(llama, tmp_path / "broken", down_proj=math.nan)
    job_dir = make_job(tmp_path / "job", broken, train=pairs(2), heldout=[], method="dpo")
    with pytest.raises(Diverged) as caught:
        run(job_dir)
    assert caught.value.key == "diverged.reference" and "1, 2" in caught.value.message
    assert not list(job_dir.encoded.glob("*.reference"))


def test_without_room_for_fp32_the_job_ends_and_says_so(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = changed(llama, tmp_path / "broken", down_proj=math.nan)
    monkeypatch.setattr(repeating, "read_memory", lambda *_: (1 << 30, 1 << 10))
    job_dir = make_job(tmp_path / "job", broken, train=examples(8), heldout=[])
    with pytest.raises(Diverged):
        run(job_dir)
    assert "not_finite.no_room" in notes_of(job_dir)
    assert "last_good_kept" not in notes_of(job_dir)
    assert not job_dir.checkpoints.exists()


def test_a_repeated_step_draws_the_same_dropout(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step fails for a reason that does not come back; the run equals one where nothing happened."""
    options = {"train": examples(16), "heldout": [], "dropout": 0.3, "num_epochs": 2}
    still = make_job(tmp_path / "still", llama, **options)
    run(still)
    shaken = make_job(tmp_path / "shaken", llama, **options)
    real = Computer.accumulate_gradient
    failed: list[bool] = []

    def once(self: Computer, rows: list[object]) -> float:
        loss = real(self, rows)  # type: ignore[arg-type]
        if len(steps_of(shaken)) == 1 and not failed:
            failed.append(True)
            return math.nan
        return loss

    monkeypatch.setattr(Computer, "accumulate_gradient", once)
    run(shaken)
    assert notes_of(shaken)["not_finite.step"]["step"] == 2
    assert [event.loss for event in steps_of(shaken)] == pytest.approx([event.loss for event in steps_of(still)], rel=1e-6)
    for key, tensor in adapter(shaken).items():
        assert (tensor - adapter(still)[key]).norm() <= 1e-5 * adapter(still)[key].norm(), key


def test_no_contract_takes_a_number_that_is_none() -> None:
    whole = {"step": 1, "epoch": 1.0, "loss": 1.0, "rows": 1, "tokens": 1}
    EvalLogged.model_validate(whole)
    for number in (math.nan, math.inf):
        with pytest.raises(ValidationError):
            EvalLogged.model_validate({**whole, "loss": number})
    assert "NaN" not in Noted(level="info", key="x", params={"loss": math.nan}).model_dump_json()


def test_rows_are_named_in_order_and_the_rest_by_an_ellipsis() -> None:
    assert repeating.name_rows([Row([], [], number) for number in (3, 1, 3, 2)]) == "1, 2, 3"
    assert repeating.name_rows([Row([], [], number) for number in range(100)]).endswith("38, 39, …")
