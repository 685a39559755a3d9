"""The best adapter on held-out rows is the result, and a training that no longer helps ends early."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from app.contracts.dataset import Example, Message
from app.contracts.events import EvalLogged, Noted
from app.storage.checkpoint_dir import find_best
from app.storage.job_dir import JobDir, write_atomically
from app.training.checkpoint import RunState
from app.training.engine import note_evaluation, train
from app.training.stopping import Stopped, StopWatch
from tests.engine.test_engine import StopAfter, adapter, steps_of
from tests.engine.tiny import examples, make_job


def contradicting(count: int) -> list[Example]:
    """Return questions of the training rows with other answers: the better the rows are learned, the worse these go."""
    turns = [example.messages or [] for example in examples(count)]
    return [
        Example(row=1000 + place, messages=[asked[0], Message(role="assistant", content="no idea" * (1 + place % 3))])
        for place, asked in enumerate(turns)
    ]


def overfitting_job(folder: Path, model: Path, **changes: Any) -> JobDir:
    job_dir = make_job(folder, model, train=examples(12), heldout=contradicting(8), num_epochs=10, learning_rate=2e-2)
    job = job_dir.read_job().model_copy(update={"keep_best": True, "early_stopping": 2, **changes})
    write_atomically(job_dir.job_file, job.model_dump_json())
    return job_dir


def notes(job_dir: JobDir) -> dict[str, dict[str, Any]]:
    return {event.key: event.params for event in job_dir.read_events() if isinstance(event, Noted)}


def heldout_losses(job_dir: JobDir) -> dict[int, float]:
    return {event.step: event.loss for event in job_dir.read_events() if isinstance(event, EvalLogged)}


@pytest.fixture(scope="module")
def ended(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> JobDir:
    job_dir = overfitting_job(tmp_path_factory.mktemp("best") / "job", llama)
    train(job_dir, StopWatch(job_dir))
    return job_dir


def test_a_training_that_makes_held_out_rows_worse_ends_early_with_its_best_adapter(ended: JobDir) -> None:
    losses = heldout_losses(ended)
    trained = {step: loss for step, loss in losses.items() if step}
    best = min(trained, key=lambda step: trained[step])
    report = ended.find_report()
    assert report is not None
    assert report.planned_steps == 20
    assert report.best_step == best < report.steps < 20
    assert report.loss_after == trained[best] < trained[report.steps]
    assert sum(step > best for step in trained) == 2, "patience is two evaluations"
    kept = find_best(ended.checkpoints)
    assert kept is not None and kept.name == f"checkpoint-{best}"
    saved = load_file(kept / "adapter.safetensors")
    result = adapter(ended)
    assert saved.keys() == result.keys() and all(torch.equal(saved[key], result[key]) for key in saved)
    said = notes(ended)
    assert said["stopped_early"]["best"] == best and said["best_kept"]["step"] == best


def test_a_paused_training_finds_the_same_best_adapter(ended: JobDir, llama: Path, tmp_path: Path) -> None:
    job_dir = overfitting_job(tmp_path / "job", llama)
    last = len(steps_of(ended))
    with pytest.raises(Stopped):
        train(job_dir, StopAfter(job_dir, last - 1, job_dir.pause_file))
    job_dir.pause_file.unlink()
    train(job_dir, StopWatch(job_dir))
    assert heldout_losses(job_dir) == heldout_losses(ended)
    assert all(torch.equal(tensor, adapter(ended)[key]) for key, tensor in adapter(job_dir).items())


def test_without_the_choice_the_last_adapter_is_the_result(ended: JobDir, llama: Path, tmp_path: Path) -> None:
    job_dir = overfitting_job(tmp_path / "job", llama, keep_best=False, early_stopping=0)
    report = train(job_dir, StopWatch(job_dir))
    assert report.steps == report.best_step == 20
    assert report.loss_after == heldout_losses(job_dir)[20]
    first = heldout_losses(ended)
    assert {step: loss for step, loss in heldout_losses(job_dir).items() if step in first} == first


def test_a_best_checkpoint_that_was_damaged_is_passed_over_aloud(llama: Path, tmp_path: Path) -> None:
    job_dir = overfitting_job(tmp_path / "job", llama)

    class Damage(StopWatch):
        def check(self) -> None:
            best = find_best(job_dir.checkpoints)
            if best is not None:
                (best / "adapter.safetensors").write_bytes(b"torn")
            super().check()

    report = train(job_dir, Damage(job_dir))
    assert "checkpoint_corrupt" in notes(job_dir) and "best_kept" not in notes(job_dir)
    assert report.best_step == report.steps and report.loss_after == heldout_losses(job_dir)[report.steps]


def test_equal_losses_do_not_count_as_better() -> None:
    state = RunState(micro_batch_size=1, token_budget=None)
    for step, loss in ((0, 1.0), (1, 2.0), (2, 1.5), (3, 1.5), (4, 1.6)):
        state = note_evaluation(state.model_copy(update={"step": step}), loss, {}, 0.0)
    assert (state.best_step, state.best_loss, state.worse_in_a_row, state.heldout_before) == (2, 1.5, 2, 1.0)
