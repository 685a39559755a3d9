"""`make bench`: how long a person waits. A plan, the probe of the machine, the catalogue, and the first word of an answer.

Prints one table; `--json` prints the same numbers for a machine. Medians of repeated calls on this machine, after one call
that is not counted. The figures that count are committed under docs/benchmarks/.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from app.contracts.chat import GenerateCommand, Generation
from app.contracts.dataset import Message
from app.core.settings import Settings
from app.hardware.probe import probe
from app.inference import client
from app.services import dataset_service, planning_service
from app.services.studio import open_studio
from app.storage.model_store import EMBEDDED_ID

QUESTION = "What is the capital of France?"


def median_ms(call: Callable[[], object], times: int) -> float:
    """Return the median wall time of `call` in milliseconds, after one call that warms up."""
    call()
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds) * 1000


def measure_answers(folder: Path, model_path: str, dtype: str) -> dict[str, float]:
    """Return first-token latency (ms) and speed (tokens/s) of the resident worker on the embedded model."""
    socket_path = folder / "bench.sock"
    command = [sys.executable, "-m", "app.inference", "--socket", str(socket_path), "--device", "cpu", "--idle-seconds", "60"]
    asked = GenerateCommand(
        target="base", model_path=model_path, adapter_path=None, dtype=dtype,
        messages=[Message(role="user", content=QUESTION)], generation=Generation(max_new_tokens=64),
    )  # fmt: skip
    worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not client.is_up(socket_path):
            time.sleep(0.05)
        waits, speeds = [], []
        for _ in range(6):
            started = time.perf_counter()
            stream = client.generate(socket_path, asked)
            next(stream)
            waits.append((time.perf_counter() - started) * 1000)
            last = list(stream)[-1]
            speeds.append(last.tokens / last.seconds)
    finally:
        worker.terminate()
        worker.wait()
    return {"first_token_ms": statistics.median(waits[1:]), "tokens_per_second": statistics.median(speeds[1:])}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        studio = open_studio(Settings(data_dir=folder / "data"))
        try:
            subprocess.run([sys.executable, "-m", "app.training.embedded", str(studio.models.embedded_folder)], check=True)
            dataset_id = dataset_service.import_sample(studio).dataset_id
            hardware = probe(folder)
            source = studio.models.find(EMBEDDED_ID)
            assert source is not None
            figures = {
                "probe_ms": median_ms(lambda: probe(folder), 20),
                "plan_ms": median_ms(lambda: planning_service.plan(studio, dataset_id, EMBEDDED_ID), 50),
                "catalogue_ms": median_ms(lambda: planning_service.available(studio, "en"), 10),
                **measure_answers(folder, source.path, "bfloat16" if hardware.best.bf16 else "float32"),
            }
        finally:
            studio.close()
    if arguments.json:
        print(json.dumps({"machine": hardware.cpu_name, "cores": hardware.devices[-1].cores, **figures}))
        return
    print(f"{hardware.cpu_name}, {hardware.devices[-1].cores} cores\n")
    for figure, value in figures.items():
        print(f"  {figure:<20}{value:>10.1f}")


if __name__ == "__main__":
    main()
