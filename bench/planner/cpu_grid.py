"""`.venv/bin/python bench/planner/cpu_grid.py [--repeats 3] [--json]`: predicted beside measured, our engine on this processor.

Every job is planned before the first one runs, by what the product uses: a calibration of this machine, the traced step,
`planning_service.plan`. Then `finetune` runs each job in its own process, as the page would. Predictions and measurements
are written to one file (--file), row by row: started again, the command goes on where it stopped. `--new` starts afresh.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from grid_models import write_models, write_rows

from app.contracts.options import Dtype
from app.contracts.plan import Plan
from app.contracts.status import JobStatus
from app.core.settings import Settings
from app.services import calibration_service, dataset_service, planning_service
from app.services.finetuning_service import finetune
from app.services.job_service import get_job
from app.services.studio import Studio, open_studio
from app.storage.model_store import EMBEDDED_ID

MIB = 1 << 20
EMBEDDED = "embedded"


@dataclass(frozen=True)
class Row:
    """One job of the grid. Lengths are of the rows, in tokens."""

    model: str
    dtype: Dtype
    batch: int
    rows: int
    shortest: int
    longest: int
    checkpointing: bool = False
    accumulation: int = 1
    rank: int = 16

    @property
    def name(self) -> str:
        """Name that finds the row again in the file."""
        again = " recomputed" if self.checkpointing else ""
        return f"{self.model} {self.dtype} {self.batch}x{self.accumulation} {self.shortest}-{self.longest} r{self.rank}{again}"


GRID = (
    Row(EMBEDDED, "bfloat16", 8, 32, 128, 128),
    Row(EMBEDDED, "bfloat16", 8, 24, 60, 380),
    Row(EMBEDDED, "bfloat16", 4, 16, 100, 480, checkpointing=True, accumulation=2),
    Row(EMBEDDED, "float32", 4, 16, 64, 160),
    Row(EMBEDDED, "bfloat16", 1, 5, 700, 1000),
    Row("gpt2", "bfloat16", 8, 32, 60, 400),
    Row("gpt2", "float32", 4, 16, 128, 128),
    Row("gpt2", "bfloat16", 4, 16, 256, 256, checkpointing=True),
    Row("distilgpt2", "float32", 8, 24, 60, 300),
    Row("distilgpt2", "bfloat16", 2, 16, 500, 500),
    Row("llama-79m", "bfloat16", 8, 48, 60, 400),
    Row("llama-79m", "float32", 8, 24, 60, 300, checkpointing=True),
    Row("llama-79m", "bfloat16", 1, 10, 900, 1000),
    Row("qwen2-137m", "bfloat16", 4, 24, 60, 300),
    Row("qwen2-137m", "float32", 8, 24, 64, 64),
    Row("llama-281m", "bfloat16", 8, 24, 128, 128),
    Row("llama-281m", "bfloat16", 4, 16, 80, 400, checkpointing=True, rank=64),
    Row("llama-281m", "float32", 2, 8, 80, 200, rank=8),
)


@dataclass(frozen=True)
class Predicted:
    """What the planner said before anything ran."""

    peak_bytes: int
    peak_bytes_upper: int
    seconds_p50: float
    seconds_p90: float
    parts: dict[str, int]
    memory_method: str
    time_method: str


@dataclass(frozen=True)
class Measured:
    """One run of a job."""

    peak_bytes: int
    seconds: float


class Results:
    """The file with predictions and measurements."""

    def __init__(self, file: Path) -> None:
        self._file = file
        stored: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
        self.machine: dict[str, Any] = stored.get("machine", {})
        self.predicted = {name: Predicted(**value) for name, value in stored.get("predicted", {}).items()}
        self.measured = {name: [Measured(**value) for value in runs] for name, runs in stored.get("measured", {}).items()}

    def save(self) -> None:
        """Write everything."""
        content = {
            "machine": self.machine,
            "predicted": {name: asdict(value) for name, value in self.predicted.items()},
            "measured": {name: [asdict(run) for run in runs] for name, runs in self.measured.items()},
        }
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def name_model(row: Row, models: Path) -> str:
    """Return the model's name for the services."""
    return EMBEDDED_ID if row.model == EMBEDDED else str(models / row.model)


def list_options(row: Row) -> dict[str, Any]:
    """Return every option that the row fixes."""
    return {
        "num_epochs": 1, "batch_size": row.batch, "gradient_accumulation_steps": row.accumulation,
        "max_length": 1024, "dtype": row.dtype, "gradient_checkpointing": row.checkpointing,
        "lora_rank": row.rank, "lora_alpha": 2 * row.rank, "learning_rate": 1e-4,
    }  # fmt: skip


def import_rows(studio: Studio, row: Row, folder: Path) -> str:
    """Import the row's data set; return its id."""
    file = folder / f"{row.rows}-{row.shortest}-{row.longest}.jsonl"
    write_rows(file, row.rows, row.shortest, row.longest)
    return dataset_service.import_upload(studio, file, filename=file.name, name=file.stem).dataset_id


def predict(plan: Plan) -> Predicted:
    """Return what counts of a plan."""
    return Predicted(
        peak_bytes=plan.peak_bytes,
        peak_bytes_upper=plan.peak_bytes_upper,
        seconds_p50=plan.seconds_p50,
        seconds_p90=plan.seconds_p90,
        parts=plan.parts.model_dump(),
        memory_method=plan.memory_method,
        time_method=plan.time_method,
    )


def run_job(studio: Studio, dataset_id: str, model: str, row: Row) -> Measured:
    """Run one job to its end; return its peak and the seconds of its process. Raises RuntimeError when it fails."""
    job_id = finetune(studio, dataset_id, model, name=row.name, **list_options(row)).job_id
    while True:
        with studio.database.reading() as session:
            status = JobStatus(get_job(session, job_id).status)
        if status in {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED}:
            break
        time.sleep(0.1)
    if status != JobStatus.SUCCEEDED:
        raise RuntimeError(f"{row.name}: {status}\n{studio.job_dir(job_id).log_file.read_text()[-2000:]}")
    for _ in range(50):
        found = [record for record in studio.planner_dir.read_records() if record.job_id == job_id]
        if found and found[0].measured_seconds is not None:
            return Measured(found[0].measured_peak_bytes, found[0].measured_seconds)
        time.sleep(0.1)
    raise RuntimeError(f"{row.name}: no record")


def summarise(results: Results) -> dict[str, Any]:
    """Return the errors over all rows that ran: percent of what was measured."""
    peaks, seconds, covered, bounded = [], [], [], []
    for name, runs in results.measured.items():
        predicted, peak = results.predicted[name], max(run.peak_bytes for run in runs)
        wall = statistics.median(run.seconds for run in runs)
        peaks.append(100 * (predicted.peak_bytes / peak - 1))
        bounded.append(predicted.peak_bytes_upper >= peak)
        seconds.append(100 * (predicted.seconds_p50 / wall - 1))
        covered += [run.seconds <= predicted.seconds_p90 for run in runs]
    if not peaks:
        return {}
    return {
        "rows": len(peaks),
        "runs": len(covered),
        "peak_mean_abs_pct": statistics.fmean(map(abs, peaks)),
        "peak_worst_under_pct": max(0.0, -min(peaks)),
        "peak_worst_over_pct": max(0.0, *peaks),
        "upper_bound_covers": statistics.fmean(bounded),
        "seconds_mean_abs_pct": statistics.fmean(map(abs, seconds)),
        "seconds_worst_abs_pct": max(map(abs, seconds)),
        "p90_covers": statistics.fmean(covered),
    }


def print_table(results: Results) -> None:
    """Print one line a row and the summary, in Markdown."""
    print("| job | peak planned | measured | error | seconds planned | P90 | measured (median) | error |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, runs in results.measured.items():
        predicted, peak = results.predicted[name], max(run.peak_bytes for run in runs)
        wall = statistics.median(run.seconds for run in runs)
        print(
            f"| {name} | {predicted.peak_bytes / MIB:,.0f} | {peak / MIB:,.0f} | {predicted.peak_bytes / peak - 1:+.1%} "
            f"| {predicted.seconds_p50:.1f} | {predicted.seconds_p90:.1f} | {wall:.1f} "
            f"| {predicted.seconds_p50 / wall - 1:+.1%} |"
        )
    print()
    for figure, value in summarise(results).items():
        print(f"- {figure}: {value:.3g}")


def main() -> int:
    """Plan, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each job")
    parser.add_argument("--file", type=Path, default=Path(tempfile.gettempdir()) / "affinage-cpu-grid" / "results.json")
    parser.add_argument("--only", default="", help="only jobs whose name contains this")
    parser.add_argument("--new", action="store_true", help="forget the file")
    parser.add_argument(
        "--again", action="store_true", help="plan anew and keep what was measured: after a change to the planner"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    folder: Path = arguments.file.absolute().parent
    if arguments.new:
        arguments.file.unlink(missing_ok=True)
        shutil.rmtree(folder / "data", ignore_errors=True)  # jobs of a grid that was broken off would go on in it
    results = Results(arguments.file)
    if arguments.again:
        results.predicted = {name: value for name, value in results.predicted.items() if arguments.only not in name}
    studio = open_studio(Settings(data_dir=folder / "data", model_roots=str(folder / "models"), trace_plans=True))
    try:
        embedded = studio.models.embedded_folder
        subprocess.run([sys.executable, "-m", "app.training.embedded", str(embedded)], check=True)
        write_models(folder / "models", embedded)
        rows = [row for row in GRID if arguments.only in row.name]
        data = {row.name: import_rows(studio, row, folder) for row in rows}
        if any(row.name not in results.predicted for row in rows):
            if arguments.new or calibration_service.find_calibration(studio) is None:
                calibration_service.calibrate(studio)
            results.machine = {"processor": studio.hardware().cpu_name, "cores": studio.hardware().devices[-1].cores}
            for row in rows:
                model = name_model(row, folder / "models")
                plan = planning_service.plan(studio, data[row.name], model, device_id="cpu", **list_options(row))
                results.predicted[row.name] = predict(plan)
            results.save()
        with studio.supervising(required=True):
            for _ in range(arguments.repeats):
                for row in rows:
                    runs = results.measured.setdefault(row.name, [])
                    if len(runs) >= arguments.repeats:
                        continue
                    runs.append(run_job(studio, data[row.name], name_model(row, folder / "models"), row))
                    results.save()
                    print(f"{row.name}: {runs[-1].peak_bytes / MIB:,.0f} MiB, {runs[-1].seconds:.1f} s", file=sys.stderr)
    finally:
        studio.close()
    if arguments.json:
        print(json.dumps({**json.loads(arguments.file.read_text("utf-8")), "summary": summarise(results)}))
    else:
        print_table(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
