"""`.venv/bin/python bench/planner/ground_truth.py FILE... [--json]`: the planner's tracer against measured runs.

Each row of a file (format of shared/data/t4_ground_truth: fitcheck-llm, MIT) is a real LoRA or QLoRA step on a card.
Its step is traced with the stack that it ran on (stock.py); nothing is fitted for memory. The time of a step and the
bound on reserved memory are learned from other models' rows only: those of the files, and those of KNOWN_ROWS where that
folder exists. What our tracer says of the latter is kept in traced_rows.json, so that they need not be traced again;
`--write-traced` writes it anew. The measurements themselves stay where they are.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import statistics
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.planner.bound import calculate_bound
from app.planner.calibrated import Shares, derive_pace
from app.planner.gpus import find_rates
from app.planner.pace import Pace, Sample, fit_pace
from app.planner.traced import Work

TRACED = Path(__file__).with_name("traced_rows.json")
KNOWN_ROWS = Path(__file__).parents[3] / "shared" / "data" / "t4_ground_truth"
MIB = 1 << 20
GUESS = Shares(half=0.5, full=0.7, attention=1.0, elementwise=0.75, gemm=0.75, unpacked=0.75, launch_seconds=10e-6)
"""What a kernel library usually reaches of a card's peaks; not fitted to any row. Where the fit to other models begins."""
TRUST = 1.0
"""Samples' worth of the guess."""


@dataclass(frozen=True)
class Row:
    """One configuration: what was measured (mean over repeats) and what is predicted without looking at it."""

    model: str
    gpu: str
    kernel: str
    quantization: str
    variant: str
    """Everything else that makes configurations differ."""
    batch: int
    length: int
    allocated_bytes: float
    reserved_bytes: float
    seconds: float
    repeats: int
    predicted_allocated_bytes: int
    predicted_reserved_bytes: int
    params_exact: bool
    """Whether the traced model has as many parameters as the row says."""
    work: tuple[float, ...]
    """In the order of `app.planner.traced.Work`."""

    @property
    def key(self) -> tuple[object, ...]:
        """Rows with the same key are repeats of each other."""
        return (self.model, self.gpu, self.kernel, self.quantization, self.variant, self.batch, self.length)

    @property
    def log_reserved(self) -> float:
        """log(measured / predicted) of reserved memory."""
        return math.log(self.reserved_bytes / self.predicted_reserved_bytes)


@dataclass(frozen=True)
class Judged:
    """A row with what other models' rows say about it."""

    row: Row
    predicted_seconds: float
    bound_bytes: float
    """Reserved memory is meant to stay below this in at least 95 % of runs."""

    @property
    def errors_pct(self) -> dict[str, float]:
        """Predicted against measured."""
        row = self.row
        return {
            "allocated": 100 * (row.predicted_allocated_bytes / row.allocated_bytes - 1),
            "reserved": 100 * (row.predicted_reserved_bytes / row.reserved_bytes - 1),
            "step_seconds": 100 * (self.predicted_seconds / row.seconds - 1),
        }


MEASURED = ("peak_allocated_mib", "peak_reserved_mib", "step_seconds")
COUNTED = ("batch_size", "seq_len", "lora_rank")
SIZES = ("num_params", "hidden_size", "num_layers", "num_attention_heads", "num_kv_heads", "intermediate_size", "vocab_size")
STATED = ("kernel", "attn_impl", "double_quant", "lora_targets", "grad_checkpoint")
KNOWN: dict[str, tuple[str, ...]] = {
    "quantization": ("none", "nf4"),
    "precision": ("fp16", "bf16", "fp32"),
    "optimizer": ("adamw", "adamw_torch"),
}
"""Values of `run` that stock.py can follow."""


def read_groups(files: Iterable[Path]) -> list[list[dict[str, Any]]]:
    """Return the files' rows, repeats together; those that cannot be judged are left out, and stderr says why.

    Raise ValueError for a file that cannot be read. One without `runs` (a manifest beside the others) has no rows.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for file in files:
        for number, row in enumerate(read_rows(file), start=1):
            if (fault := find_fault(row)) is not None:
                print(f"{file}: row {number} is left out: {fault}", file=sys.stderr)
            else:
                groups.setdefault(_identify(row), []).append(row)
    return list(groups.values())


def read_rows(file: Path) -> list[Any]:
    """Return the rows of a file as they are. Raise ValueError where it cannot be read."""
    try:
        content = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{file} is no JSON: {error}") from error
    rows = content.get("runs") if isinstance(content, dict) else None
    return rows if isinstance(rows, list) else []


def find_fault(row: Any) -> str | None:
    """Return why a row cannot be judged, or None."""
    if not isinstance(row, dict):
        return "it is no object"
    for part in ("measured", "model_config", "run"):
        if not isinstance(row.get(part), dict) or not row[part]:
            return f"it has no {part}"
    measured, run, sizes = row["measured"], row["run"], row["model_config"]
    for name in MEASURED:
        value = measured.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            return f"measured.{name} is no positive number"
    for part, names in (("run", COUNTED), ("model_config", SIZES)):
        for name in names:
            value = row[part].get(name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                return f"{part}.{name} is no positive whole number"
    for name, values in KNOWN.items():
        if run.get(name) not in values:
            return f"run.{name} is none of {', '.join(values)}"
    missing = [f"run.{name}" for name in STATED if name not in run]
    missing += [f"model_config.{name}" for name in ("name", "tie_word_embeddings") if name not in sizes]
    return f"it has no {missing[0]}" if missing else None


def _identify(row: dict[str, Any]) -> str:
    run = {name: value for name, value in row["run"].items() if name not in {"source_file", "fitcheck_version"}}
    return json.dumps([row["model_config"], run], sort_keys=True)


@dataclass(frozen=True)
class Traced:
    """What the tracer says of one configuration."""

    allocated_bytes: int
    reserved_bytes: int
    params_exact: bool
    work: tuple[float, ...]


def trace_group(group: list[dict[str, Any]]) -> Traced:
    """Trace one configuration (in a process of the pool)."""
    import torch
    from stock import trace_row

    torch.set_num_threads(1)
    traced = trace_row(group[0])
    return Traced(
        allocated_bytes=traced.allocated_bytes,
        reserved_bytes=traced.reserved_bytes,
        params_exact=traced.params == group[0]["model_config"]["num_params"],
        work=tuple(asdict(traced.costs).values()),
    )


def join(group: list[dict[str, Any]], traced: Traced) -> Row:
    """Put what was measured beside what was traced."""
    first, run = group[0], group[0]["run"]
    mean = {name: statistics.fmean(row["measured"][name] for row in group) for name in MEASURED}
    variant = {
        name: run[name] for name in ("precision", "double_quant", "optimizer", "lora_rank", "lora_targets", "grad_checkpoint")
    }
    return Row(
        model=first["model_config"]["name"],
        gpu=run.get("gpu_name") or first["gpu"],
        kernel=run["kernel"],
        quantization=run["quantization"],
        variant=json.dumps(variant, sort_keys=True),
        batch=run["batch_size"],
        length=run["seq_len"],
        allocated_bytes=mean["peak_allocated_mib"] * MIB,
        reserved_bytes=mean["peak_reserved_mib"] * MIB,
        seconds=mean["step_seconds"],
        repeats=len(group),
        predicted_allocated_bytes=traced.allocated_bytes,
        predicted_reserved_bytes=traced.reserved_bytes,
        params_exact=traced.params_exact,
        work=traced.work,
    )


def _fingerprint(group: list[dict[str, Any]]) -> str:
    return hashlib.sha256(_identify(group[0]).encode()).hexdigest()[:16]


def read_known() -> list[Row]:
    """Return the rows of KNOWN_ROWS that were traced before."""
    traces = json.loads(TRACED.read_text("utf-8")) if TRACED.is_file() else {}
    traced = {name: Traced(**{**values, "work": tuple(values["work"])}) for name, values in traces.items()}
    groups = read_groups(sorted(KNOWN_ROWS.glob("*.json")))
    return [join(group, traced[_fingerprint(group)]) for group in groups if _fingerprint(group) in traced]


def write_traced(groups: list[list[dict[str, Any]]], traced: list[Traced]) -> None:
    """Keep what the tracer said, for files that are judged later."""
    content = {_fingerprint(group): asdict(found) for group, found in zip(groups, traced, strict=True)}
    TRACED.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def judge(row: Row, rows: list[Row]) -> Judged:
    """Predict the row's time and bound its memory from the rows of other models."""
    others = [other for other in rows if other.model != row.model]
    pace = fit_steps([other for other in others if other.gpu == row.gpu], row.gpu)
    # Rows of one model err alike, so what is exchangeable is models: each counts once, with its worst row. As long as
    # there are fewer than 19, that is the worst row of all plus 5 % (app.planner.bound).
    worst = {model: max(other.log_reserved for other in others if other.model == model) for model in {o.model for o in others}}
    factor = calculate_bound(tuple(worst.values())).factor
    return Judged(row, pace.seconds(Work(*row.work)), factor * row.predicted_reserved_bytes)


def fit_steps(rows: list[Row], gpu: str) -> Pace:
    """Return the card's paces from these rows, starting from its rates in the table."""
    samples = [Sample(Work(*row.work), row.seconds) for row in rows]
    return fit_pace(samples, derive_pace(find_rates(gpu), GUESS), trust=TRUST)


def summarise(judged: list[Judged]) -> dict[str, Any]:
    """Return the figures of all rows."""
    summary: dict[str, Any] = {}
    for name in ("allocated", "reserved", "step_seconds"):
        errors = [abs(item.errors_pct[name]) for item in judged]
        summary[name] = {"mean_abs_pct": round(statistics.fmean(errors), 3), "worst_abs_pct": round(max(errors), 3)}
    covered = [item.row.reserved_bytes <= item.bound_bytes for item in judged]
    above = [item.bound_bytes / item.row.reserved_bytes - 1 for item in judged]
    summary["reserved_bound"] = {
        "covered_pct": round(100 * statistics.fmean(covered), 1),
        "mean_above_pct": round(100 * statistics.fmean(above), 1),
    }
    summary["rows"] = {
        "configurations": len(judged),
        "measurements": sum(item.row.repeats for item in judged),
        "models": len({item.row.model for item in judged}),
        "params_exact": sum(item.row.params_exact for item in judged),
    }
    return summary


def print_table(judged: list[Judged], summary: dict[str, Any]) -> None:
    """Print each row and the figures."""
    print(
        f"{'model':28} {'kernel':6} {'weights':7} {'b':>3} {'s':>5} {'allocated':>19} {'reserved':>19} {'95 %':>6} {'step':>16}"
    )
    for item in judged:
        row, errors = item.row, item.errors_pct
        print(
            f"{row.model[:28]:28} {row.kernel[:6]:6} {row.quantization:7} {row.batch:3} {row.length:5} "
            f"{row.allocated_bytes / MIB:7.0f} MiB {errors['allocated']:+6.2f} % "
            f"{row.reserved_bytes / MIB:7.0f} MiB {errors['reserved']:+6.2f} % "
            f"{'below' if row.reserved_bytes <= item.bound_bytes else 'ABOVE':>6} "
            f"{row.seconds:6.2f} s {errors['step_seconds']:+5.0f} %"
        )
    for name, figures in summary.items():
        print(f"{name:15} " + ", ".join(f"{key} {value}" for key, value in figures.items()))


def main() -> int:
    """Trace, judge, print; return 0."""
    parser = argparse.ArgumentParser(description="Trace measured LoRA steps and compare.")
    parser.add_argument("files", nargs="+", type=Path, help="files in the format of shared/data/t4_ground_truth")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--write-traced", action="store_true", help=f"keep the traces in {TRACED.name}")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1), help="processes that trace")
    arguments = parser.parse_args()
    try:
        groups = read_groups(arguments.files)
    except ValueError as error:
        parser.error(str(error))
    if not groups:
        parser.error("no row of these files can be judged")
    with ProcessPoolExecutor(arguments.jobs) as pool:
        traced = list(pool.map(trace_group, groups))
    if arguments.write_traced:
        write_traced(groups, traced)
    rows = [join(group, found) for group, found in zip(groups, traced, strict=True)]
    union = {row.key: row for row in [*read_known(), *rows]}
    judged = [judge(row, list(union.values())) for row in rows]
    summary = summarise(judged)
    if arguments.json:
        entries = [
            {
                **{name: value for name, value in asdict(item.row).items() if name != "work"},
                "work": asdict(Work(*item.row.work)),
                "predicted_seconds": item.predicted_seconds,
                "bound_bytes": item.bound_bytes,
                "error_pct": item.errors_pct,
            }
            for item in judged
        ]
        print(json.dumps({"summary": summary, "rows": entries}, indent=1))
    else:
        print_table(judged, summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
