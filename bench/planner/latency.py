"""How long the planner lets one wait, over HTTP, on a fresh data folder: `.venv/bin/python bench/planner/latency.py [--json]`.

A real server is started. The closed form is timed in this process: one variant weighed and timed, as a slider asks for it.
Every figure stands beside the issue's target; the committed ones are in docs/benchmarks/planner-latency.md.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx2

from app.contracts.options import FinetuningOptions
from app.hardware.probe import probe
from app.planner.bound import read_shipped
from app.planner.candidates import Estimator, Knobs
from app.planner.request import PlanRequest
from app.planner.run_shape import RowLengths
from app.planner.shapes import find_shape
from app.services.finetuning_service import MODEL_CONFIGS
from app.services.resolution import resolve_values
from app.storage.model_store import EMBEDDED_ID

NEVER_SEEN = (
    "gpt2",
    "Qwen/Qwen3-0.6B",
    "HuggingFaceTB/SmolLM2-1.7B-Instruct",
    "google/gemma-3-1b-it",
    "mistralai/Mistral-7B-v0.3",
)
START_SECONDS = 60.0


@dataclass(frozen=True)
class Figure:
    """One measured wait."""

    what: str
    milliseconds: float
    target_ms: float
    worst_ms: float
    times: int

    @property
    def holds(self) -> bool:
        """Whether the worst call stayed below the target."""
        return self.worst_ms < self.target_ms


def summarise(what: str, seconds: list[float], target_ms: float) -> Figure:
    """Return the median and the worst of some calls."""
    return Figure(what, 1000 * statistics.median(seconds), target_ms, 1000 * max(seconds), len(seconds))


@contextmanager
def serving(data_dir: Path) -> Iterator[httpx2.Client]:
    """Run a server of its own on a free port; yield a client that is connected to it."""
    with socket.socket() as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        port = probe_socket.getsockname()[1]
    command = [sys.executable, "-m", "app.cli", "serve", "--port", str(port)]
    environment = {**os.environ, "AFFINAGE_DATA_DIR": str(data_dir), "AFFINAGE_TRACE_PLANS": "true"}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            deadline = time.monotonic() + START_SECONDS
            while True:
                try:
                    client.get("/api/health")
                    break
                except httpx2.TransportError:
                    if time.monotonic() > deadline or server.poll() is not None:
                        raise
                    time.sleep(0.05)
            yield client
    finally:
        server.terminate()
        server.wait()


def time_call(client: httpx2.Client, method: str, path: str, body: object = None) -> float:
    """Return the seconds of one call that must succeed."""
    started = time.perf_counter()
    answer = client.request(method, path, json=body) if body is not None else client.request(method, path)
    seconds = time.perf_counter() - started
    answer.raise_for_status()
    return seconds


def time_closed_form(data_dir: Path) -> Figure:
    """Time one variant of one model: its memory by formula and the time of the whole run."""
    device = probe(data_dir.parent).best
    entry = MODEL_CONFIGS["gpt2"]
    seconds = []
    for micro in (1, 2, 4, 8) * 50:
        request = PlanRequest(
            model_id="gpt2", model_name="GPT-2", shape=find_shape("gpt2"), vram_required_gb=2.0, device=device,
            available_bytes=device.memory_free_bytes, values=resolve_values(FinetuningOptions(), entry),
            lengths=RowLengths(tuple(range(20, 440, 20)), measured=True), train_rows=1000, heldout_rows=100,
            residuals=read_shipped(),
        )  # fmt: skip
        assert request.shape is not None
        started = time.perf_counter()
        estimator = Estimator(request, request.shape)
        estimator.time(estimator.weigh(Knobs(micro, 16 // micro, 512, False, "bfloat16", "none")))
        seconds.append(time.perf_counter() - started)
    ordered = sorted(seconds)
    # The worst of 200 calls is a moment in which the machine did something else.
    return Figure("closed form, one variant", 1000 * statistics.median(ordered), 1.0, 1000 * ordered[-10], len(ordered))


def measure(data_dir: Path) -> list[Figure]:
    """Return every figure."""
    with serving(data_dir) as client:
        dataset_id = client.post("/api/datasets/sample").raise_for_status().json()["dataset_id"]

        def plan(model: str, **options: object) -> float:
            return time_call(client, "POST", "/api/plans", {"dataset_id": dataset_id, "model_name": model, **options})

        first_list = time_call(client, "GET", "/api/models/available")
        recommended = f"/api/models/recommended?dataset_id={dataset_id}"
        first_ranking = time_call(client, "GET", recommended)
        cold = plan(EMBEDDED_ID)
        cached = [plan(EMBEDDED_ID, num_epochs=1 + number % 3, batch_size=2 ** (number % 4)) for number in range(40)]
        new = [plan(model) for model in NEVER_SEEN]
        rankings = [time_call(client, "GET", recommended) for _ in range(10)]
    return [
        time_closed_form(data_dir),
        summarise("POST /api/plans, cached", cached, 50),
        summarise("POST /api/plans, model never seen, worker warm", new, 4000),
        summarise("POST /api/plans, first of all, worker cold", [cold], 12000),
        summarise("GET /api/models/recommended, whole catalogue", [first_ranking, *rankings], 1000),
        summarise("GET /api/models/available, first call", [first_list], 3000),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        figures = measure(Path(name) / "data")
        machine = probe(Path(name))
    if arguments.json:
        rows = [{**asdict(figure), "holds": figure.holds} for figure in figures]
        print(json.dumps({"machine": machine.cpu_name, "cores": machine.devices[-1].cores, "figures": rows}))
        return
    print(f"{machine.cpu_name}, {machine.devices[-1].cores} cores\n")
    print(f"  {'':<48}{'median':>10}{'worst':>10}{'target':>10}{'calls':>7}")
    for figure in figures:
        mark = "" if figure.holds else "  missed"
        times = f"{figure.milliseconds:>7.1f} ms{figure.worst_ms:>7.1f} ms{figure.target_ms:>7.0f} ms"
        print(f"  {figure.what:<48}{times}{figure.times:>7}{mark}")


if __name__ == "__main__":
    main()
