"""A trainer that is killed without warning, where chance wants it, ends with the bits of the run that never was.

The processes are the real ones. So that the place does not hang on how busy the machine is, each sends SIGKILL to itself:
before the n-th event is written, or before the n-th time that a file is made durable, in the middle of a checkpoint.
"""

import os
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from app.contracts.events import EvalLogged, Event, Noted, StatusChanged, StepLogged
from app.storage.job_dir import JobDir
from app.training.engine import train
from app.training.stopping import StopWatch
from tests.engine.test_engine import adapter
from tests.engine.test_methods import judged, pairs
from tests.engine.tiny import GPT2_TARGETS, examples, make_job

SUICIDE = """
import os, signal
name, count = os.environ["KILLED_AT"].split(":")
left, call = int(count), getattr(os, name)
def count_down(*arguments):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return call(*arguments)
setattr(os, name, count_down)
"""
"""Run by the interpreter before anything else (module `sitecustomize`)."""


@dataclass(frozen=True)
class Case:
    """A job and where its trainer is killed."""

    seed: int
    call: Literal["write", "fsync"]
    """Events are written with one `os.write` each; a checkpoint takes six `os.fsync`."""
    checkpoint_every_seconds: float
    method: str = "sft"


CASES = {
    "llama": Case(seed=1, call="write", checkpoint_every_seconds=0.03),  # some steps are taken twice
    "gpt2": Case(seed=3, call="fsync", checkpoint_every_seconds=0.0, method="dpo"),
}


def make(folder: Path, model: Path, case: Case) -> JobDir:
    """Return a job of 15 steps in three epochs, with dropout and held-out rows."""
    rows = pairs if case.method == "dpo" else examples
    return make_job(
        folder,
        model,
        train=rows(40),
        heldout=rows(5, start=1000),
        method=case.method,
        targets=GPT2_TARGETS if "gpt2" in model.name else None,
        dropout=0.2,
        num_epochs=3,
        seed=case.seed,
        checkpoint_every_seconds=case.checkpoint_every_seconds,
    )


def run_and_kill(job_dir: JobDir, case: Case, hooks: Path) -> int:
    """Start the trainer, which dies, and once more; return how often it had called when it died."""
    # After the first step and well before the last: 20 events are at most 13 steps, 80 durable files at most 13 checkpoints.
    fatal = random.Random(case.seed).randint(*{"write": (12, 20), "fsync": (12, 80)}[case.call])
    for count in (fatal, None):
        environment = {**os.environ}
        if count is not None:
            environment |= {"PYTHONPATH": str(hooks), "KILLED_AT": f"{case.call}:{count}"}
        command = [sys.executable, "-m", "app.training", str(job_dir.path)]
        with job_dir.log_file.open("ab") as log:
            code = subprocess.run(command, stdout=log, stderr=log, env=environment, check=False, timeout=200).returncode
        assert code == (0 if count is None else -signal.SIGKILL), job_dir.log_file.read_text()
    return fatal


class Killed(BaseException):
    """Stands for SIGKILL in a process that goes on: nothing of the trainer's own may catch it."""


@pytest.mark.parametrize(
    ("method", "options"),
    [("kto", {"lora": {"use_dora": True}}), ("sft", {"long_rows": "split", "max_length": 64}), ("dpo", {"quantization": "nf4"})],
)
def test_other_runs_killed_at_any_event_end_with_the_same_bits(
    method: str, options: dict[str, Any], llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout, micro-batches beside each other, and moments in eight bits for the supervised run."""
    if "quantization" in options:
        pytest.importorskip("bitsandbytes")
        pytest.importorskip("accelerate")
    if method == "sft":
        monkeypatch.setattr("app.training.assembly.takes_eight_bits", lambda *_: True)
    monkeypatch.setattr("app.training.engine.use_physical_cores", lambda: 2)
    rows = {"kto": judged, "dpo": pairs, "sft": examples}[method]

    def make_run(name: str) -> JobDir:
        return make_job(
            tmp_path / name,
            llama,
            train=rows(16),
            heldout=rows(4, start=16),
            method=method,
            dropout=0.2,
            checkpoint_every_seconds=0.0,
            **options,
        )

    whole, killed = make_run("whole"), make_run("killed")
    train(whole, StopWatch(whole))
    events = len(list(whole.read_events()))
    real = JobDir.append
    for deadly in sorted(random.Random(method).sample(range(2, events), 2)):
        left = deadly - len(list(killed.read_events()))

        def append(self: JobDir, event: Event) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return real(self, event)

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(JobDir, "append", append)
            train(killed, StopWatch(killed))
    train(killed, StopWatch(killed))
    expected = {event.step: event.loss for event in whole.read_events() if isinstance(event, StepLogged)}
    logged = [(event.step, event.loss) for event in killed.read_events() if isinstance(event, StepLogged)]
    assert {step for step, _ in logged} == expected.keys()
    assert [loss for _, loss in logged] == [expected[step] for step, _ in logged]
    assert all(torch.equal(tensor, adapter(whole)[key]) for key, tensor in adapter(killed).items())


def test_a_run_killed_anywhere_ends_with_the_same_bits(llama: Path, gpt2: Path, tmp_path: Path) -> None:
    models = {"llama": llama, "gpt2": gpt2}
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(SUICIDE)
    killed = {name: make(tmp_path / f"killed-{name}", models[name], case) for name, case in CASES.items()}
    with ThreadPoolExecutor() as pool:
        counts = {name: pool.submit(run_and_kill, killed[name], CASES[name], hooks) for name in CASES}
        for name, case in CASES.items():
            whole = make(tmp_path / f"whole-{name}", models[name], case)
            train(whole, StopWatch(whole))
            assert_same_run(whole, killed[name], case, f"{name}, killed at {counts[name].result()}")


def assert_same_run(whole: JobDir, killed: JobDir, case: Case, where: str) -> None:
    events = list(killed.read_events())
    assert sum(isinstance(event, StatusChanged) and event.status == "running" for event in events) == 2
    resumed = sum(isinstance(event, Noted) and event.key == "resumed" for event in events)
    assert resumed == 1 or case.checkpoint_every_seconds, where
    for kind in (StepLogged, EvalLogged):
        expected = {event.step: event.loss for event in whole.read_events() if isinstance(event, kind)}
        logged = [(event.step, event.loss) for event in events if isinstance(event, kind)]
        assert {step for step, _ in logged} == expected.keys(), where
        # Steps after the last checkpoint were taken twice, with the same loss.
        assert [loss for _, loss in logged] == [expected[step] for step, _ in logged], where
    assert all(torch.equal(tensor, adapter(whole)[key]) for key, tensor in adapter(killed).items()), where
    first, second = whole.find_report(), killed.find_report()
    assert first is not None and second is not None
    for name in ("loss_before", "loss_after", "train_loss_first", "train_loss_last", "steps", "tokens"):
        assert getattr(first, name) == getattr(second, name), where
