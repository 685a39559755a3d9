"""`make load`: a data folder of 10,000 jobs, a run of 1,000,000 steps, and 250 clients while a real training runs.

    .venv/bin/python bench/load/measure.py [--jobs 10000] [--long-steps 1000000] [--seconds 60] [--data FOLDER] [--json]
        [--write docs/benchmarks/load.md]

1. Fill a data folder (fill.py), or take a filled one (--data).
2. Start a server on it and open what pages open: lists, one job, its charts.
3. Train the embedded model; in turns of --seconds, twice each: nobody looks, then 200 clients follow the training's events
   and 50 poll lists every 5 s (clients.py, a process of its own on the same cores).
Every event that a client should have seen is counted: those that were written SEEN_WITHIN_SECONDS before it left. The
slowdown of training is that of the step's median; how much of it the clients' own processor time explains is said beside it:
they would run on other machines. So is what other processes took.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from fill import LONG_JOB, fill
from page import write_page
from server import Server

from app.storage.job_dir import JobDir
from app.storage.model_store import EMBEDDED_ID

CHART_POINTS = 800
"""What the page asks for."""
OPENED = {
    "list of jobs": "/api/jobs",
    "list of jobs, 200": "/api/jobs?limit=200",
    "running jobs": "/api/jobs?status=running",
    "data sets": "/api/datasets",
    "the long job": f"/api/jobs/{LONG_JOB}",
    "its loss": f"/api/jobs/{LONG_JOB}/metrics?name=loss&points={CHART_POINTS}",
    "its held-out loss": f"/api/jobs/{LONG_JOB}/metrics?name=heldout_loss&points={CHART_POINTS}",
    "its learning rate": f"/api/jobs/{LONG_JOB}/metrics?name=learning_rate&points={CHART_POINTS}",
}
OPENED_TIMES = 15
WARM_STEPS = 3
JOB_SECONDS = 600
SEEN_WITHIN_SECONDS = 3.0
"""An event that a follower has not seen so long after it was written counts as lost: events are gathered for half a second, and
the clients leave a few milliseconds apart."""


def open_pages(server: Server) -> dict[str, dict[str, float]]:
    """Return how long each answer takes, in milliseconds: the first, the median and the worst of the following ones."""
    figures = {}
    for name, path in OPENED.items():
        taken = []
        for _ in range(1 + OPENED_TIMES):
            began = time.perf_counter()
            answer = server.client.get(path)
            taken.append((time.perf_counter() - began) * 1000)
            assert answer.status_code == 200, answer.text
        figures[name] = {"first": taken[0], "median": statistics.median(taken[1:]), "worst": max(taken[1:])}
    return figures


def start_training(server: Server, dataset_id: str) -> str:
    """Start a training that lasts longer than the measurement and wait until it is at work."""
    body = {"dataset_id": dataset_id, "model_name": EMBEDDED_ID, "num_epochs": 1000}
    answer = server.client.post("/api/start-finetuning", json=body)
    assert answer.status_code == 201, answer.text
    job_id: str = answer.json()["job_id"]
    began = time.monotonic()
    while (job := server.client.get(f"/api/jobs/{job_id}").json())["progress"]["step"] < WARM_STEPS:
        assert time.monotonic() - began < JOB_SECONDS and job["status"] in ("queued", "starting", "running"), job
        time.sleep(0.5)
    return job_id


def step_seconds(folder: JobDir, first: int) -> tuple[list[float], int]:
    """Return the duration of each step after event `first`, and the number of the last event."""
    steps, last = [], first
    for event in folder.read_events(after=first):
        last = event.seq
        if event.kind == "step_logged":
            steps.append(event.step_seconds)
    return steps[1:], last  # the first one began before


def last_before(folder: JobDir, moment: float) -> int:
    """Return the number of the last event that was written before `moment`, in seconds since the epoch."""
    return max(event.seq for event in folder.read_events() if datetime.fromisoformat(event.at).timestamp() < moment)


def let_clients_work(server: Server, job_id: str, seconds: float, followers: int, pollers: int) -> dict[str, Any]:
    """Run the clients and return what they saw."""
    command = [sys.executable, str(Path(__file__).with_name("clients.py")), "--port", str(server.port), "--job", job_id]
    command += ["--seconds", str(seconds), "--followers", str(followers), "--pollers", str(pollers)]
    seen: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return seen


def train_under_load(server: Server, data_dir: Path, dataset_id: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Train with and without clients in turns and return the figures."""
    job_id = start_training(server, dataset_id)
    try:
        return compare(server, job_id, JobDir(data_dir / "jobs" / job_id), asked)
    finally:
        server.client.post(f"/api/jobs/{job_id}/cancel")
        while server.client.get(f"/api/jobs/{job_id}").json()["status"] == "cancelling":
            time.sleep(0.2)


def compare(server: Server, job_id: str, folder: JobDir, asked: argparse.Namespace) -> dict[str, Any]:
    """Let the clients work in turns with nobody and return the figures."""
    quiet: list[float] = []
    loaded: list[float] = []
    runs: list[dict[str, Any]] = []
    cpu_quiet = cpu_loaded = 0.0
    identity = folder.find_process()
    assert identity is not None
    trainer = psutil.Process(identity.pid)
    all_before, trainer_before, began_at = busy_seconds(), sum(trainer.cpu_times()[:2]), time.monotonic()
    _, seq = step_seconds(folder, 0)
    for _ in range(asked.rounds):
        began = server.cpu_seconds()
        time.sleep(asked.seconds)
        cpu_quiet += server.cpu_seconds() - began
        steps, seq = step_seconds(folder, seq)
        quiet += steps
        began, came_at = server.cpu_seconds(), time.time()
        runs.append(let_clients_work(server, job_id, asked.seconds, asked.followers, asked.pollers))
        cpu_loaded += server.cpu_seconds() - began
        runs[-1]["last_to_see"] = last_before(folder, came_at + asked.seconds - SEEN_WITHIN_SECONDS)
        steps, seq = step_seconds(folder, seq)
        loaded += steps
    own_seconds = cpu_quiet + cpu_loaded + sum(run["cpu_seconds"] for run in runs)
    own_seconds += sum(trainer.cpu_times()[:2]) - trainer_before
    other_cores = (busy_seconds() - all_before - own_seconds) / (time.monotonic() - began_at)
    latencies = sorted(value for run in runs for value in run["latencies_ms"])
    seconds = sum(run["seconds"] for run in runs)
    server_cores, client_cores = cpu_loaded / seconds, sum(run["cpu_seconds"] for run in runs) / seconds
    slower = statistics.median(loaded) / statistics.median(quiet) - 1
    return {
        "events_seen": sum(run["events"] for run in runs),
        "gaps_or_doubles": sum(len(run["broken"]) for run in runs),
        "followers_behind": sum(last < run["last_to_see"] for run in runs for last in run["last_seqs"]),
        "refused": sum(len(run["refused"]) for run in runs),
        "answers": len(latencies),
        "p50_ms": statistics.median(latencies),
        "p99_ms": latencies[int(len(latencies) * 0.99)],
        "worst_ms": latencies[-1],
        "server_cores": server_cores,
        "server_cores_without_clients": cpu_quiet / (asked.rounds * asked.seconds),
        "client_cores": client_cores,
        "server_peak_bytes": server.peak_bytes,
        "step_seconds_quiet": statistics.median(quiet),
        "step_seconds_loaded": statistics.median(loaded),
        "steps": [len(quiet), len(loaded)],
        "other_cores": max(0.0, other_cores),
        "slowdown": slower,
        "slowdown_without_clients_share": slower * server_cores / (server_cores + client_cores),
    }


def busy_seconds() -> float:
    """Return the processor time of all processes since the boot."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--long-steps", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--followers", type=int, default=200)
    parser.add_argument("--pollers", type=int, default=50)
    parser.add_argument(
        "--data", type=Path, help="a folder that an earlier call filled and kept; made and kept where it is not there"
    )
    parser.add_argument("--fill-only", action="store_true", help="only fill the folder of --data")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", type=Path, help="write the page of figures")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="affinage-load-") as temporary:
        data_dir: Path = asked.data or Path(temporary) / "data"
        figures: dict[str, Any] = {"cores": psutil.cpu_count(), "asked": vars(asked) | {"data": None, "write": None}}
        if not data_dir.exists():
            fill(data_dir, asked.jobs, asked.long_steps)
        if asked.fill_only:
            return
        server = Server(data_dir)
        try:
            figures["start_seconds"] = server.start_seconds
            dataset_id = server.client.get("/api/datasets").json()["datasets"][0]["dataset_id"]
            figures["opened"] = open_pages(server)
            figures["load"] = train_under_load(server, data_dir, dataset_id, asked)
        finally:
            server.close()
    print(json.dumps(figures) if asked.json else show(figures))
    if asked.write:
        asked.write.write_text(write_page(figures), encoding="utf-8")


def show(figures: dict[str, Any]) -> str:
    """Return the figures as lines for a person."""
    lines = [f"start of the server: {figures['start_seconds']:.1f} s; {figures['cores']} cores"]
    lines += [
        f"  {name:<20} first {took['first']:7.1f} ms   median {took['median']:7.1f} ms   worst {took['worst']:7.1f} ms"
        for name, took in figures["opened"].items()
    ]
    lines += [
        f"  {name:<32}{value if not isinstance(value, float) else round(value, 4)}" for name, value in figures["load"].items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
