"""Whole runs in this process on a tiny real model."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from app.contracts.events import EvalLogged, JobEvent, Noted, StepLogged
from app.core.errors import DatasetInvalid, Diverged, ModelUnavailable, Unsupported
from app.datasets.render import Renderer
from app.storage.job_dir import JobDir
from app.training.checkpoint import list_checkpoints
from app.training.engine import train
from app.training.lora import load_adapter
from app.training.stopping import Stopped, StopWatch
from tests.engine.tiny import GPT2_TARGETS, examples, make_job

TARGETS = {"llama": None, "gpt2": GPT2_TARGETS}


class StopAfter(StopWatch):
    """Writes a control file once so many steps are logged, as a person pressing a button would."""

    def __init__(self, job_dir: JobDir, steps: int, file: Path) -> None:
        super().__init__(job_dir)
        self._job, self._steps, self._file = job_dir, steps, file

    def check(self) -> None:
        if len(steps_of(self._job)) >= self._steps:
            self._file.touch()
        super().check()


def run(job_dir: JobDir, **options: int) -> list[JobEvent]:
    train(job_dir, StopWatch(job_dir), **options)
    return list(job_dir.read_events())


def steps_of(job_dir: JobDir) -> list[StepLogged]:
    return [event for event in job_dir.read_events() if isinstance(event, StepLogged)]


def adapter(job_dir: JobDir) -> dict[str, torch.Tensor]:
    return load_file(job_dir.adapter / "adapter_model.safetensors")


def assert_close(ours: JobDir, reference: JobDir, tolerance: float) -> None:
    a, b = adapter(ours), adapter(reference)
    assert a.keys() == b.keys()
    for key in a:
        assert (a[key] - b[key]).norm() <= tolerance * b[key].norm(), key


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_training_lowers_the_loss_and_moves_only_the_adapter(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder: Path = request.getfixturevalue(name)
    weights = (folder / "model.safetensors").read_bytes()
    job_dir = make_job(
        tmp_path / "job",
        folder,
        train=examples(24),
        heldout=examples(6, start=24),
        targets=TARGETS[name],
        num_epochs=4,
        gradient_accumulation_steps=1,
        learning_rate=2e-2,
    )
    report = train(job_dir, StopWatch(job_dir))
    events = list(job_dir.read_events())
    losses = [event.loss for event in events if isinstance(event, StepLogged)]
    assert len(losses) == report.steps == 24
    assert losses[-1] < 0.7 * losses[0]
    assert report.loss_before is not None and report.loss_after is not None
    assert report.loss_after < 0.8 * report.loss_before
    evaluations = [event for event in events if isinstance(event, EvalLogged)]
    assert [event.epoch for event in evaluations] == [0, 1, 2, 3, 4]
    assert evaluations[-1].loss == report.loss_after
    assert all(tensor.abs().sum() > 0 for tensor in adapter(job_dir).values())
    assert (folder / "model.safetensors").read_bytes() == weights
    assert (job_dir.adapter / "tokenizer.json").is_file()
    assert job_dir.find_report() == report

    # What was saved is what was measured.
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    base = {key: value.clone() for key, value in model.state_dict().items()}
    load_adapter(model, job_dir.adapter)
    tuned = {key.replace(".wrapped", ""): value for key, value in model.state_dict().items() if "lora_" not in key}
    assert all(torch.equal(base[key], tuned[key]) for key in base)


def test_progress_events_add_up(llama: Path, tmp_path: Path) -> None:
    job_dir = make_job(tmp_path / "job", llama, train=examples(10), heldout=[], num_epochs=2)
    run(job_dir)
    steps = steps_of(job_dir)
    assert [event.step for event in steps] == [1, 2, 3, 4]  # 8 + 2 rows, twice
    assert [event.epoch for event in steps] == [0.5, 1.0, 1.5, 2.0]
    assert all(event.total_steps == 4 and event.tokens_per_second > 0 and event.peak_bytes > 50e6 for event in steps)
    assert steps[-1].tokens == 2 * steps[1].tokens
    assert steps[-1].eta_seconds == 0
    assert steps[0].learning_rate == pytest.approx(1e-2)


def test_micro_batch_size_does_not_change_the_result(llama: Path, tmp_path: Path) -> None:
    split = {}
    for rows, accumulation in ((8, 1), (2, 4)):
        split[rows] = make_job(
            tmp_path / f"job{rows}",
            llama,
            train=examples(16),
            heldout=[],
            micro_batch_size=rows,
            gradient_accumulation_steps=accumulation,
        )
        run(split[rows])
    assert_close(split[2], split[8], 1e-3)
    assert [e.loss for e in steps_of(split[2])] == pytest.approx([e.loss for e in steps_of(split[8])], rel=1e-5)


def test_cancel_ends_the_run_between_micro_batches(llama: Path, tmp_path: Path) -> None:
    job_dir = make_job(tmp_path / "job", llama, train=examples(16), heldout=[], num_epochs=5)
    with pytest.raises(Stopped) as caught:
        train(job_dir, StopAfter(job_dir, 3, job_dir.cancel_file))
    assert caught.value.reason == "cancelled"
    assert len(steps_of(job_dir)) == 3
    assert not job_dir.adapter.exists()


@pytest.mark.parametrize("stop_after", [3, 4])
def test_a_paused_run_continues_to_exactly_the_same_adapter(llama: Path, tmp_path: Path, stop_after: int) -> None:
    """Paused in the middle and at the end of an epoch (2 steps each), with dropout drawing random numbers."""
    options = {"train": examples(16), "heldout": examples(4, start=16), "dropout": 0.2, "num_epochs": 4}
    whole = make_job(tmp_path / "whole", llama, **options)
    run(whole)
    job_dir = make_job(tmp_path / "parts", llama, **options)
    with pytest.raises(Stopped):
        train(job_dir, StopAfter(job_dir, stop_after, job_dir.pause_file))
    assert [path.name for path in list_checkpoints(job_dir.checkpoints)] == [f"checkpoint-{stop_after}"]
    job_dir.pause_file.unlink()
    torch.manual_seed(999)
    events = run(job_dir)
    assert any(isinstance(event, Noted) and event.key == "resumed" for event in events)
    assert [event.step for event in steps_of(job_dir)] == list(range(1, 9))
    assert [event.loss for event in steps_of(job_dir)] == [event.loss for event in steps_of(whole)]
    assert all(torch.equal(tensor, adapter(whole)[key]) for key, tensor in adapter(job_dir).items())
    first, second = whole.find_report(), job_dir.find_report()
    assert first is not None and second is not None
    assert (first.loss_before, first.loss_after, first.tokens) == (second.loss_before, second.loss_after, second.tokens)


def test_a_damaged_checkpoint_is_skipped_for_the_one_before(llama: Path, tmp_path: Path) -> None:
    options = {"train": examples(16), "heldout": [], "num_epochs": 3}
    whole = make_job(tmp_path / "whole", llama, **options)
    run(whole)
    job_dir = make_job(tmp_path / "job", llama, checkpoint_every_seconds=0.0, **options)
    run(job_dir)
    newest, before = list_checkpoints(job_dir.checkpoints)
    assert (newest.name, before.name) == ("checkpoint-5", "checkpoint-4")
    damaged = bytearray((newest / "adapter.safetensors").read_bytes())
    damaged[-1] ^= 1
    (newest / "adapter.safetensors").write_bytes(damaged)
    events = run(job_dir)
    notes = [event.key for event in events if isinstance(event, Noted)]
    assert notes[-2:] == ["checkpoint_corrupt", "resumed"]
    assert [event.step for event in steps_of(job_dir)][-2:] == [5, 6]
    assert all(torch.equal(tensor, adapter(whole)[key]) for key, tensor in adapter(job_dir).items())


def test_a_loss_that_is_no_number_ends_the_job_as_diverged(llama: Path, tmp_path: Path) -> None:
    poisoned = tmp_path / "poisoned"
    poisoned.mkdir()
    for file in llama.iterdir():
        (poisoned / file.name).write_bytes(file.read_bytes())
    tensors = load_file(poisoned / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, poisoned / "model.safetensors", metadata={"format": "pt"})
    job_dir = make_job(tmp_path / "nan", poisoned, train=examples(8), heldout=[])
    with pytest.raises(Diverged) as caught:
        run(job_dir)
    assert caught.value.key == "diverged.loss"
    assert steps_of(job_dir) == []


def test_rows_without_anything_to_learn_are_an_error(llama: Path, tmp_path: Path) -> None:
    job_dir = make_job(tmp_path / "job", llama, train=examples(4), heldout=[], max_length=8)
    with pytest.raises(DatasetInvalid) as caught:
        run(job_dir)
    assert caught.value.key == "dataset_invalid.nothing_trained"


def test_cut_rows_are_reported(llama: Path, tmp_path: Path) -> None:
    longest = max(Renderer.load(llama).encode(row, 10_000).full_length for row in examples(16))
    job_dir = make_job(tmp_path / "job", llama, train=examples(16), heldout=[], max_length=longest - 5, num_epochs=1)
    events = run(job_dir)
    noted = {event.key: event.params for event in events if isinstance(event, Noted)}
    report = job_dir.find_report()
    assert report is not None
    assert noted["rows_truncated"]["rows"] == report.truncated_rows > 0


def test_missing_parts_are_named(llama: Path, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(Unsupported):
            run(make_job(tmp_path / "cuda", llama, train=examples(4), heldout=[], device_id="cuda:0"))
    with pytest.raises(ModelUnavailable):
        run(make_job(tmp_path / "gone", tmp_path / "no-model", train=examples(4), heldout=[]))


def test_four_bit_weights_without_their_packages_are_a_clear_error(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.training.loading.FOUR_BIT_PACKAGES", ("no_such_package",))
    with pytest.raises(Unsupported) as caught:
        run(make_job(tmp_path / "job", llama, train=examples(4), heldout=[], quantization="nf4"))
    assert caught.value.key == "unsupported.nf4"


def test_bfloat16_weights_train_with_fp32_adapters(llama: Path, tmp_path: Path) -> None:
    job_dir = make_job(
        tmp_path / "job", llama, train=examples(24), heldout=[], dtype="bfloat16", num_epochs=8, learning_rate=2e-2
    )
    run(job_dir)
    losses = [event.loss for event in steps_of(job_dir)]
    assert losses[-1] < 0.7 * losses[0]
    assert all(tensor.dtype == torch.float32 for tensor in adapter(job_dir).values())
