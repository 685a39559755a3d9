"""The trainer as the server starts it: `python -m app.training <job folder>`."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.contracts.events import JobEvent, JobFailed, Noted, PhaseStarted, StatusChanged, StepLogged
from app.core.errors import OutOfHostMemory
from app.core.messages import LANGUAGES, localise
from app.storage.job_dir import JobDir
from app.training.__main__ import describe_failure, main, strip_folders
from app.training.checkpoint import list_checkpoints
from app.training.engine import train
from app.training.stopping import StopWatch
from tests.engine.test_engine import assert_close
from tests.engine.tiny import examples, make_job, write_llama

pytestmark = pytest.mark.usefixtures("warm")


def start(job_dir: JobDir, *options: str, imports: bool = False) -> subprocess.Popen[bytes]:
    """Start the trainer; `imports`: as the server does, with seconds of imports."""
    with job_dir.log_file.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "app.training", str(job_dir.path), *options],
            stdout=log,
            stderr=log,
            env=os.environ,
            start_new_session=not imports,
        )


def finish(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(timeout=200)
    finally:
        process.kill()


def events(job_dir: JobDir) -> list[JobEvent]:
    return list(job_dir.read_events())


def statuses(job_dir: JobDir) -> list[str]:
    return [event.status for event in events(job_dir) if isinstance(event, StatusChanged)]


def wait_for_steps(job_dir: JobDir, count: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 200
    while sum(isinstance(event, StepLogged) for event in events(job_dir)) < count:
        assert process.poll() is None, job_dir.log_file.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_job_runs_from_start_to_end(llama: Path, tmp_path: Path) -> None:
    job_dir = make_job(tmp_path / "job", llama, train=examples(16), heldout=examples(4, start=16))
    assert finish(start(job_dir, "--micro-batch", "2", imports=True)) == 0, job_dir.log_file.read_text()
    assert statuses(job_dir) == ["running", "succeeded"]
    phases = [event.phase for event in events(job_dir) if isinstance(event, PhaseStarted)]
    assert phases[:4] == ["tokenising", "loading", "evaluating", "training"]
    assert phases[-2:] == ["evaluating", "saving"]
    assert [event.seq for event in events(job_dir)] == list(range(1, len(events(job_dir)) + 1))
    assert job_dir.find_report() is not None
    assert (job_dir.adapter / "adapter_model.safetensors").is_file()


def test_a_cancelled_job_says_so_and_ends_with_its_code(llama: Path, tmp_path: Path) -> None:
    job_dir = make_job(tmp_path / "job", llama, train=examples(32), heldout=[], num_epochs=1000)
    process = start(job_dir)
    wait_for_steps(job_dir, 2, process)
    job_dir.cancel_file.touch()
    assert finish(process) == 4
    assert statuses(job_dir) == ["running", "cancelled"]


def test_sigterm_keeps_what_was_learned_and_the_next_attempt_goes_on(llama: Path, tmp_path: Path) -> None:
    job_dir = make_job(tmp_path / "job", llama, train=examples(32), heldout=[], num_epochs=10)
    process = start(job_dir)
    wait_for_steps(job_dir, 3, process)
    process.send_signal(signal.SIGTERM)
    assert finish(process) == 5
    (kept,) = list_checkpoints(job_dir.checkpoints)
    done = int(kept.name.split("-")[1])
    assert finish(start(job_dir)) == 0, job_dir.log_file.read_text()
    steps = [event.step for event in events(job_dir) if isinstance(event, StepLogged)]
    assert steps == list(range(1, 41))
    assert 3 <= done < 40
    assert statuses(job_dir) == ["running", "running", "succeeded"]


@pytest.fixture
def sigterm_restored() -> Iterator[None]:
    """`main` listens for SIGTERM; the test process must not go on doing so."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("sigterm_restored")
def test_an_unexpected_failure_is_reported_without_paths(llama: Path, tmp_path: Path) -> None:
    job_dir = make_job(tmp_path / "job", llama, train=examples(8), heldout=[])
    job_dir.train_file.write_text('{"row": 1, "messages": "not a list"}\n')
    assert main([str(job_dir.path)]) == 3
    failure = events(job_dir)[-1]
    assert isinstance(failure, JobFailed)
    assert failure.code == "internal"
    assert "ValidationError" in failure.evidence
    assert str(tmp_path) not in failure.evidence
    assert "site-packages/" not in failure.evidence
    assert "/work" not in failure.evidence


@pytest.mark.usefixtures("sigterm_restored")
def test_targets_that_do_not_exist_fail_the_job_with_their_code(llama: Path, tmp_path: Path) -> None:
    job_dir = make_job(tmp_path / "job", llama, train=examples(8), heldout=[], targets=["c_attn"])
    assert main([str(job_dir.path)]) == 3
    failure = events(job_dir)[-1]
    assert isinstance(failure, JobFailed)
    assert (failure.code, failure.key) == ("invalid", "invalid.target_modules")
    for language in LANGUAGES:
        message, hint = localise(failure.key, language, **failure.params)
        assert "c_attn" in message
        assert "q_proj" in hint


LIMITED = """
import re, resource, sys
from pathlib import Path
from app.storage.job_dir import JobDir
from app.training.engine import train
from app.training.stopping import StopWatch
size = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
limit = size + int(sys.argv[2]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
job_dir = JobDir(Path(sys.argv[1]))
from app.training.__main__ import describe_failure
try:
    train(job_dir, StopWatch(job_dir), cpu_token_budget=10**9)
except Exception as error:
    job_dir.append(describe_failure(error))
    raise
"""


def run_limited(job_dir: JobDir, mebibytes: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LIMITED, str(job_dir.path), str(mebibytes)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_when_memory_really_runs_out_the_micro_batch_is_halved_with_the_same_result(llama: Path, tmp_path: Path) -> None:
    """The kernel refuses more address space: 48 rows of 500 tokens take about 950 MiB more than the process."""
    rows = [row.model_copy(update={"messages": None, "text": "abcdefgh" * 62 + str(row.row)}) for row in examples(48)]
    options = {"train": rows, "heldout": [], "micro_batch_size": 48, "gradient_accumulation_steps": 1, "num_epochs": 1}
    options |= {"max_length": 512}
    small = make_job(tmp_path / "small", llama, **options)
    done = run_limited(small, 600)
    assert done.returncode == 0, done.stderr
    halved = [event.params for event in events(small) if isinstance(event, Noted) and event.key == "micro_batch_halved"]
    assert halved and all(params["after"] == params["before"] // 2 for params in halved)  # the probe may begin with fewer rows
    roomy = make_job(tmp_path / "roomy", llama, **options)
    train(roomy, StopWatch(roomy), cpu_token_budget=10**9)
    assert not any(isinstance(event, Noted) and event.key == "micro_batch_halved" for event in events(roomy))
    assert_close(small, roomy, 1e-3)


def test_when_one_row_is_too_much_the_job_ends_with_advice(tmp_path: Path) -> None:
    """1,024 heads: the attention of one row of 512 tokens takes 1 GB, more than the process may have."""
    model = write_llama(tmp_path / "wide", hidden_size=2048, num_attention_heads=1024, head_dim=2, num_hidden_layers=1)
    rows = [row.model_copy(update={"messages": None, "text": "abcdefgh" * 62}) for row in examples(2)]
    job_dir = make_job(tmp_path / "job", model, train=rows, heldout=[], max_length=512, micro_batch_size=2)
    assert run_limited(job_dir, 900).returncode != 0
    failure = events(job_dir)[-1]
    assert isinstance(failure, JobFailed)
    assert failure.key == "oom_host.one_row"
    assert failure.params["used"] in localise(failure.key, "en", **failure.params)[0]


def test_failures_keep_their_code_and_full_disks_are_recognised() -> None:
    assert describe_failure(OutOfHostMemory("one_row", used="1 GB")).key == "oom_host.one_row"
    assert describe_failure(OSError(28, "No space left on device")).code == "disk_full"
    assert describe_failure(MemoryError()).key == "oom_host.loading"
    assert describe_failure(ValueError("x")).code == "internal"


def test_folders_are_cut_from_evidence() -> None:
    text = 'File "/work/main/.venv/lib/torch/x.py", line 3: see https://example.org/a/b and a/b'
    assert strip_folders(text) == 'File "x.py", line 3: see https://example.org/a/b and a/b'
