"""Memory that runs out in the middle of a step: the step is forgotten and taken again in smaller pieces, bit for bit.

The failure is injected where torch's allocator raises it: in the backward pass of a step's second micro-batch, after random
numbers were drawn and gradients were added. Runs whose memory is really limited are in test_process.py.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from app.contracts.events import Noted
from app.core.errors import OutOfHostMemory
from app.core.messages import LANGUAGES, localise
from app.storage.job_dir import JobDir
from app.training import gradient as gradient_module
from app.training.assembly import add_gradient
from app.training.batching import MicroBatch, Row
from app.training.checkpoint import list_checkpoints
from app.training.engine import train
from app.training.gradient import Computer
from app.training.loss import LossHead
from app.training.stopping import Stopped, StopWatch
from tests.engine.test_engine import StopAfter, adapter, assert_close, steps_of
from tests.engine.tiny import GPT2_TARGETS, examples, make_job

ROWS_PER_STEP = 8
FAILING_STEP = 3
TARGETS = {"llama": None, "gpt2": GPT2_TARGETS}


class Steps:
    """Notes how many micro-batches each step takes; lets one fail, or lowers the limit without a failure."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, failures: int = 0, lower_to: int = 0) -> None:
        """In FAILING_STEP memory runs out so often, or a micro-batch has at most so many rows from then on."""
        self.parts: list[int] = []
        self._failures, self._lower_to = failures, lower_to
        self._accumulate = Computer.accumulate_gradient

        def take(compute: Computer, rows: list[Row]) -> float:
            return self._take(compute, rows)

        monkeypatch.setattr(Computer, "accumulate_gradient", take)
        monkeypatch.setattr(gradient_module, "add_gradient", self._add)

    def _take(self, compute: Computer, rows: list[Row]) -> float:
        if len(rows) == ROWS_PER_STEP:  # the probe takes fewer
            self.parts.append(0)
            if len(self.parts) >= FAILING_STEP and self._lower_to:
                compute.limits.rows = min(compute.limits.rows, self._lower_to)
        return self._accumulate(compute, rows)

    def _add(self, head: LossHead, batch: MicroBatch, scale: float) -> Tensor:
        if not self.parts:
            return add_gradient(head, batch, scale)
        self.parts[-1] += 1
        if len(self.parts) != FAILING_STEP or self.parts[-1] != 2 or not self._failures:
            return add_gradient(head, batch, scale)
        self._failures -= 1
        self.parts[-1] = 0
        adapter = [parameter for parameter in head.model.parameters() if parameter.requires_grad]
        handle = adapter[len(adapter) // 2].register_hook(run_out)
        try:
            return add_gradient(head, batch, scale)
        finally:
            handle.remove()


def run_out(_gradient: Tensor) -> None:
    raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: 1048576 bytes")


def job_for(folder: Path, model: Path, name: str, **options: object) -> JobDir:
    """Return a job of five steps, each of two micro-batches."""
    rows = examples(5 * ROWS_PER_STEP)
    return make_job(folder, model, train=rows, heldout=[], targets=TARGETS[name], num_epochs=1, **options)  # type: ignore[arg-type]


def run(job_dir: JobDir) -> None:
    train(job_dir, StopWatch(job_dir), cpu_token_budget=10**9)


def halvings(job_dir: JobDir) -> list[tuple[object, object]]:
    """Return rows before and after of each event, which has its sentence."""
    found = [event for event in job_dir.read_events() if isinstance(event, Noted) and event.key == "micro_batch_halved"]
    for event in found:
        assert event.level == "warning"
        assert all(str(event.params["after"]) in localise(event.key, language, **event.params)[0] for language in LANGUAGES)
    return [(event.params["before"], event.params["after"]) for event in found]


def losses(job_dir: JobDir) -> list[float]:
    return [event.loss for event in steps_of(job_dir)]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_step_in_which_memory_ran_out_is_the_step_of_half_the_size(
    name: str, checkpointing: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """With dropout: nothing of the failed attempt is left, neither gradients nor random numbers that it drew."""
    model: Path = request.getfixturevalue(name)
    jobs, steps = {}, {}
    for case, options in {"failed": {"failures": 1}, "lowered": {"lower_to": 2}, "undisturbed": {}}.items():
        jobs[case] = job_for(tmp_path / case, model, name, dropout=0.3, gradient_checkpointing=checkpointing)
        with pytest.MonkeyPatch.context() as patch:
            steps[case] = Steps(patch, **options)
            run(jobs[case])
    assert halvings(jobs["failed"]) == [(4, 2)]
    assert halvings(jobs["lowered"]) == halvings(jobs["undisturbed"]) == []
    assert steps["undisturbed"].parts == [2] * 5
    assert steps["failed"].parts == [2] * 2 + [4] * 3  # accumulation doubled
    assert losses(jobs["failed"]) == losses(jobs["lowered"])
    assert losses(jobs["failed"])[:2] == losses(jobs["undisturbed"])[:2]
    assert all(torch.equal(tensor, adapter(jobs["lowered"])[key]) for key, tensor in adapter(jobs["failed"]).items())


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_without_dropout_the_result_is_that_of_the_run_that_had_room(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Path = request.getfixturevalue(name)
    roomy = job_for(tmp_path / "roomy", model, name, learning_rate=1e-3)
    run(roomy)
    tight = job_for(tmp_path / "tight", model, name, learning_rate=1e-3)
    Steps(monkeypatch, failures=2)
    run(tight)
    assert halvings(tight) == [(4, 2), (2, 1)]
    assert losses(tight) == pytest.approx(losses(roomy), abs=1e-5)
    assert_close(tight, roomy, 1e-3)


def test_a_run_that_goes_on_later_keeps_the_smaller_micro_batch(llama: Path, tmp_path: Path) -> None:
    whole = job_for(tmp_path / "whole", llama, "llama", dropout=0.3)
    with pytest.MonkeyPatch.context() as patch:
        Steps(patch, lower_to=2)
        run(whole)
    job_dir = job_for(tmp_path / "parts", llama, "llama", dropout=0.3)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        Steps(patch, failures=1)
        train(job_dir, StopAfter(job_dir, FAILING_STEP + 1, job_dir.pause_file), cpu_token_budget=10**9)
    assert [path.name for path in list_checkpoints(job_dir.checkpoints)] == [f"checkpoint-{FAILING_STEP + 1}"]
    job_dir.pause_file.unlink()
    run(job_dir)
    assert losses(job_dir) == losses(whole)
    assert all(torch.equal(tensor, adapter(whole)[key]) for key, tensor in adapter(job_dir).items())


def test_when_one_row_is_too_much_the_job_says_so(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job_dir = job_for(tmp_path / "job", llama, "llama")
    Steps(monkeypatch, failures=3)
    with pytest.raises(OutOfHostMemory) as caught:
        run(job_dir)
    assert caught.value.key == "oom_host.one_row"
    assert halvings(job_dir) == [(4, 2), (2, 1)]
    assert len(steps_of(job_dir)) == FAILING_STEP - 1
