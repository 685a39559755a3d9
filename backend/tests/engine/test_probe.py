"""The trial before the start: it says what memory a step takes and changes nothing."""

from pathlib import Path

import pytest
import torch

from app.contracts.events import Noted
from app.core.messages import LANGUAGES, localise
from app.datasets.render import Renderer
from app.storage.job_dir import JobDir
from app.training import probe as probe_module
from app.training.assembly import assemble, finish_gradient, update
from app.training.gradient import Computer, Limits
from app.training.loading import load_model
from app.training.memory import peak_bytes, settle
from app.training.probe import affordable, longest_micro_batch, probe
from app.training.rows import EncodedRows
from tests.engine.tiny import encode, examples, make_job

CPU = torch.device("cpu")


def prepare(llama: Path, folder: Path, *, dropout: float = 0.0) -> tuple[Computer, torch.optim.Optimizer, EncodedRows, JobDir]:
    job_dir = make_job(folder, llama, train=examples(12), heldout=[], dropout=dropout)
    job = job_dir.read_job()
    renderer = Renderer.load(llama)
    rows = encode(job_dir, 256)
    built = assemble(load_model(job, CPU), job.lora, kind="cpu")
    settle(built.parameters, built.optimizer)
    compute = Computer(built.head, built.parameters, CPU, renderer.pad_id, 256, Limits(4, 1024), job_dir, lambda: None)
    return compute, built.optimizer, rows, job_dir


def notes(job_dir: JobDir) -> list[Noted]:
    return [event for event in job_dir.read_events() if isinstance(event, Noted)]


def test_the_peak_is_logged_beside_the_planned_one(llama: Path, tmp_path: Path) -> None:
    compute, optimizer, rows, job_dir = prepare(llama, tmp_path / "job")
    probe(compute, optimizer, rows.rows, [], planned_bytes=1 << 50)
    (note,) = notes(job_dir)
    assert (note.level, note.key) == ("info", "probe.measured")
    assert note.params["planned_bytes"] == 1 << 50
    assert 50e6 < note.params["measured_bytes"] <= peak_bytes(CPU)
    assert note.params["tokens"] == max(len(row.ids) for row in rows.rows)
    for language in LANGUAGES:
        assert note.params["measured"] in localise(note.key, language, **note.params)[0]


def test_a_peak_above_the_plan_is_a_warning(llama: Path, tmp_path: Path) -> None:
    compute, optimizer, rows, job_dir = prepare(llama, tmp_path / "job")
    probe(compute, optimizer, rows.rows, [], planned_bytes=1 << 20)
    (note,) = notes(job_dir)
    assert (note.level, note.key) == ("warning", "probe.over_plan")


def test_everything_is_as_before_even_with_dropout_and_half_way_through_a_run(llama: Path, tmp_path: Path) -> None:
    compute, optimizer, rows, _ = prepare(llama, tmp_path / "job", dropout=0.3)
    compute.accumulate_gradient(rows.rows)
    finish_gradient(compute.parameters, rows.counts.trained_tokens, 1.0)
    update(optimizer, 1e-2, keep_gradients=True)

    def snapshot() -> list[torch.Tensor]:
        states = [value for state in optimizer.state.values() for value in state.values()]
        gradients = [parameter.grad for parameter in compute.parameters]
        return [tensor.clone() for tensor in (*compute.parameters, *states, *gradients, torch.get_rng_state())]

    before = snapshot()
    probe(compute, optimizer, rows.rows, rows.rows, planned_bytes=0)
    after = snapshot()
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_the_longest_rows_that_may_meet_are_tried(llama: Path, tmp_path: Path) -> None:
    compute, _, rows, _ = prepare(llama, tmp_path / "job")
    lengths = sorted((len(row.ids) for row in rows.rows), reverse=True)
    assert [len(row.ids) for row in longest_micro_batch(compute, rows.rows)] == lengths[:4]
    compute.limits.tokens = lengths[0]
    assert len(longest_micro_batch(compute, rows.rows)) == 1


def test_a_processor_tries_only_what_it_can_in_the_time(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute, optimizer, rows, job_dir = prepare(llama, tmp_path / "job")
    longest = longest_micro_batch(compute, rows.rows)
    monkeypatch.setattr(probe_module, "PROBE_SECONDS", 1e6)
    assert affordable(compute, longest) == longest
    monkeypatch.setattr(probe_module, "PROBE_SECONDS", 0.0)
    assert affordable(compute, longest) == []
    probe(compute, optimizer, rows.rows, [], planned_bytes=0)
    (note,) = notes(job_dir)
    assert note.key == "probe.skipped"
