"""`.venv/bin/python bench/training/scale.py [--json]`: what our trainer costs before its first step and on long files.

1. Start-up: from the start of the process to the first step, the probe not counted; median of --repeats runs.
2. Tokens/s over 200 steps on a file of 1,000 rows and on one of 50,000 rows of the same kind. The machine's speed changes
   by the minute, so both processes live at once and take turns: one works for a few seconds while the other is stopped.
   A step in which its process was stopped does not count.
3. Peak resident memory after 40 steps on 1,000 and on 100,000 rows.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from product import Product, read_phases, read_time
from runs import run_process
from workload import ALPACA, SHAPES, Shape, Workload, prepare

from app.contracts.events import StepLogged
from app.jobs.executors.environment import trainer_environment
from app.storage.job_dir import JobDir

STEPS = 200
TURN_SECONDS = 4.0
FILES = (1_000, 50_000)
MEMORY_FILES = (1_000, 100_000)
MEMORY_STEPS = 40
KIND = Shape("short rows", "embedded", str(ALPACA), rows=64, length=128, batch=2, heldout=0)


def measure_start(folder: Path, repeats: int) -> dict[str, Any]:
    """Return the seconds from the start of the process to the first step, and what they consist of."""
    workload = prepare(replace(SHAPES[0], name="start", rows=8), folder)
    found, phases = [], []
    for _ in range(repeats):
        target = workload.folder / "runs" / "job"
        shutil.rmtree(target.parent, ignore_errors=True)
        target.parent.mkdir(parents=True)
        job = Product(folder).write_job(workload, target)
        command = [sys.executable, "-m", "app.training", str(job.path)]
        started = run_process(command, trainer_environment(), target.parent / "log.txt").started
        spans = read_phases(job)
        first = next(event for event in job.read_events() if isinstance(event, StepLogged))
        found.append(read_time(first.at) - started - spans["probe"] - first.step_seconds)
        events = list(job.read_events())
        phases.append(spans | {"python": read_time(events[0].at) - started, "imports": _imports(events)})
    return {
        "startup_seconds": statistics.median(found),
        "all": found,
        "phases": {name: statistics.median(spans[name] for spans in phases) for name in phases[0]},
    }


def _imports(events: list[Any]) -> float:
    """Seconds between the first word of the process and the first stage: torch and transformers are imported."""
    return read_time(events[1].at) - read_time(events[0].at)


def write_long_file(workload: Workload, rows: int, folder: Path) -> Workload:
    """Return a workload of `rows` rows: the workload's own again and again, numbered."""
    target = folder / "workloads" / f"short-rows-{rows}"
    target.mkdir(parents=True, exist_ok=True)
    source = [json.loads(line) for line in workload.train_file.read_text("utf-8").splitlines()]
    with (target / "train.jsonl").open("w", encoding="utf-8") as lines:
        for number in range(rows):
            row = source[number % len(source)]
            first = {**row["messages"][0], "content": f"{number}. {row['messages'][0]['content']}"}
            lines.write(json.dumps({"row": number + 1, "messages": [first, *row["messages"][1:]]}) + "\n")
    return replace(workload, folder=target, shape=replace(workload.shape, name=f"{rows} rows", rows=rows))


def measure_files(folder: Path, steps: int) -> dict[str, Any]:
    """Run both files in turns; return tokens/s of each and the ratio."""
    jobs = _write_jobs(FILES, folder)
    processes: dict[int, subprocess.Popen[bytes]] = {}
    turns: dict[int, list[tuple[float, float]]] = {rows: [] for rows in FILES}
    try:
        for rows, job in jobs.items():
            with (job.path / "log.txt").open("wb") as log:
                command = [sys.executable, "-m", "app.training", str(job.path)]
                processes[rows] = subprocess.Popen(command, env=trainer_environment(), stdout=log, stderr=subprocess.STDOUT)
            while not _steps(job):  # alone until it trains
                if processes[rows].poll() is not None:
                    raise RuntimeError((job.path / "log.txt").read_text("utf-8", "replace")[-2000:])
                time.sleep(0.2)
            os.kill(processes[rows].pid, signal.SIGSTOP)
        while any(len(_steps(job)) <= steps for job in jobs.values()):
            for rows, process in processes.items():
                began = time.time()
                os.kill(process.pid, signal.SIGCONT)
                time.sleep(TURN_SECONDS)
                os.kill(process.pid, signal.SIGSTOP)
                turns[rows].append((began, time.time()))
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    speeds = {rows: _speed(_steps(job), turns[rows]) for rows, job in jobs.items()}
    return {
        "tokens_per_second": {str(rows): speed for rows, speed in speeds.items()},
        "ratio": speeds[FILES[1]] / speeds[FILES[0]],
    }


def measure_memory(folder: Path) -> dict[str, int]:
    """Return the peak resident memory by rows of the file, in bytes, since the process began: tokenising counts."""
    found = {}
    for rows, job in _write_jobs(MEMORY_FILES, folder).items():
        with (job.path / "log.txt").open("wb") as log:
            command = [sys.executable, "-m", "app.training", str(job.path)]
            process = subprocess.Popen(command, env=trainer_environment(), stdout=log, stderr=subprocess.STDOUT)
        try:
            while len(_steps(job)) < MEMORY_STEPS:
                if process.poll() is not None:
                    raise RuntimeError((job.path / "log.txt").read_text("utf-8", "replace")[-2000:])
                time.sleep(0.5)
            status = Path(f"/proc/{process.pid}/status").read_text("utf-8")
        finally:
            process.kill()
            process.wait()
        found[str(rows)] = 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))
    return found


def _write_jobs(files: tuple[int, int], folder: Path) -> dict[int, JobDir]:
    kind = prepare(KIND, folder)
    jobs = {}
    for rows in files:
        workload = write_long_file(kind, rows, folder)
        target = workload.folder / "job"
        shutil.rmtree(target, ignore_errors=True)
        jobs[rows] = Product(folder).write_job(workload, target)
    return jobs


def _steps(job: JobDir) -> list[StepLogged]:
    return [event for event in job.read_events() if isinstance(event, StepLogged)]


def _speed(steps: list[StepLogged], turns: list[tuple[float, float]]) -> float:
    """Return tokens/s over the steps that began and ended within one turn."""
    tokens = seconds = 0.0
    for before, step in pairwise(steps):
        ended = read_time(step.at)
        if any(began <= ended - step.step_seconds and ended <= end for began, end in turns):
            tokens += step.tokens - before.tokens
            seconds += step.step_seconds
    return tokens / seconds


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--only", choices=("start", "files", "memory"))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "affinage-bench-training")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    folder: Path = arguments.folder.absolute()
    file = folder / "scale.json"
    found: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    if arguments.only in (None, "start"):
        found["start"] = measure_start(folder, arguments.repeats)
    if arguments.only in (None, "files"):
        found["files"] = measure_files(folder, arguments.steps)
    if arguments.only in (None, "memory"):
        found["memory"] = measure_memory(folder)
    file.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    if arguments.json:
        print(json.dumps(found))
        return 0
    if start := found.get("start"):
        print(f"- start-up without the probe: {start['startup_seconds']:.1f} s")
        print("  " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in start["phases"].items()))
    if files := found.get("files"):
        speeds = files["tokens_per_second"]
        print(f"- {STEPS} steps: " + ", ".join(f"{speed:.0f} tokens/s on {rows} rows" for rows, speed in speeds.items()))
        print(f"  ratio {files['ratio']:.3f}")
    if memory := found.get("memory"):
        print("- peak memory: " + ", ".join(f"{size / 1e9:.3f} GB on {rows} rows" for rows, size in memory.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
