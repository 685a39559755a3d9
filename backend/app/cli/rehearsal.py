"""Three real training steps and one answer, on a tiny model in a temporary folder, through the same processes as a job."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from app.cli.finding import Finding
from app.cli.terminal import Terminal
from app.contracts.chat import GenerateCommand, Generation
from app.contracts.dataset import Message
from app.contracts.events import JobFailed, StepLogged
from app.core.messages import localise
from app.core.settings import Settings
from app.inference.client import generate
from app.services.inference_workers import InferenceWorkers
from app.storage.job_dir import JobDir

TRAINER_SECONDS = 180
STEPS = 3


def rehearse(terminal: Terminal) -> Iterator[Finding]:
    """Yield what came of the training, then of loading its adapter in the chat worker."""
    with tempfile.TemporaryDirectory(prefix="affinage-doctor-") as temporary:
        folder = Path(temporary)
        began = time.monotonic()
        made = run_module("app.training.selftest", str(folder))
        if made.returncode:
            yield Finding("training", "failed", last_line(made.stderr), terminal.say("doctor_setup_hint"))
            return
        job_dir = JobDir(folder / "job")
        trained = run_module("app.training", str(job_dir.path))
        training = judge(job_dir, trained, terminal, time.monotonic() - began)
        yield training
        if training.state == "ok":
            yield load_adapter(folder, job_dir, terminal)


def run_module(module: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run one of our engine modules with this interpreter."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, timeout=TRAINER_SECONDS, check=False
    )


def judge(job_dir: JobDir, trained: "subprocess.CompletedProcess[str]", terminal: Terminal, seconds: float) -> Finding:
    """Read from the job's own events whether all steps were made."""
    events = list(job_dir.read_events())
    failure = next((event for event in events if isinstance(event, JobFailed)), None)
    if failure is not None:
        message, hint = localise(failure.key, terminal.language, **failure.params)
        return Finding("training", "failed", f"{message} {failure.evidence}".strip(), hint)
    steps = [event for event in events if isinstance(event, StepLogged)]
    if trained.returncode or len(steps) != STEPS:
        return Finding(
            "training", "failed", last_line(trained.stderr) or f"{len(steps)} / {STEPS}", terminal.say("doctor_setup_hint")
        )
    losses = " → ".join(f"{step.loss:.3f}" for step in steps)
    return Finding("training", "ok", terminal.say("doctor_trained", losses=losses, seconds=f"{seconds:.0f}"))


def load_adapter(folder: Path, job_dir: JobDir, terminal: Terminal) -> Finding:
    """Let the chat worker answer once with the adapter. The worker is ended afterwards."""
    for name in ("logs", "run"):
        (folder / name).mkdir(mode=0o700)
    workers = InferenceWorkers(Settings(data_dir=folder))
    job = job_dir.read_job()
    command = GenerateCommand(
        target="tuned",
        model_path=job.model.path,
        adapter_path=str(job_dir.adapter),
        dtype=job.dtype,
        messages=[Message(role="user", content="1 + 1?")],
        generation=Generation(max_new_tokens=4),
    )
    try:
        last = list(generate(workers.ensure(job.device_id), command))[-1]
    except OSError as error:
        return Finding("adapter", "failed", str(error), terminal.say("doctor_setup_hint"))
    finally:
        workers.close()
    if last.error_key is not None:
        message, hint = localise(last.error_key, terminal.language, **last.error_params)
        return Finding("adapter", "failed", message, hint)
    return Finding("adapter", "ok", terminal.say("doctor_adapter_loads", tokens=last.tokens))


def last_line(text: str) -> str:
    """Return the last line of an output: Python puts the reason there."""
    return (text.strip().splitlines() or [""])[-1]
