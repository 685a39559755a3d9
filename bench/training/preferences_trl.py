"""`.venv/bin/python bench/training/preferences_trl.py [--write FILE]`: DPO and KTO beside TRL's trainers, on a processor.

Real preferences (shared/data/llamafactory/dpo_en_demo.json) and the embedded model. The same rows in the same order, max_length,
batch, beta, learning rate and adapter; each trainer in a process of its own, in the same environment. TRL gets what made its
supervised trainer fastest here (docs/benchmarks/training-cpu.md): bf16 weights, the smallest micro-batch that its method takes,
no checkpointing, eager attention; and the reference computed beforehand, as ours. No further search, one run each.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from preferences import write_job
from product import read_phases, read_time
from runs import Ended, make_trl_python, run_process
from table import describe_machine
from workload import LEARNING_RATE, RANK, SEED

from app.contracts.dataset import Example, Message
from app.contracts.events import StepLogged
from app.datasets.render import Renderer
from app.jobs.executors.environment import trainer_environment
from app.storage.job_dir import JobDir
from app.training.batching import epoch_order

MICRO = {"dpo": 1, "kto": 2}
"""Pairs, or rows: TRL's KTO takes the other answer from the same micro-batch."""
GIB = 2**30


@dataclass(frozen=True)
class Found:
    """What one run showed."""

    steps_tokens_per_second: float
    """Tokens of both answers of a pair, or of a row, of the steps after the first; the reference not counted."""
    whole_seconds: float
    """Process start to end, with the reference."""
    peak_bytes: int
    first_loss: float
    last_loss: float
    disturbed_cores: float


def list_rows(job: JobDir, method: str) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the rows as TRL takes them, in the order in which our job learns them, and the tokens of each as our engine cuts it.

    Left out, as our engine does, is what has nothing to learn before the cut.
    """
    read = job.read_job()
    renderer = Renderer.load(Path(read.model.path))
    rows, counts = [], []
    for line in job.train_file.read_text("utf-8").splitlines():
        example = Example.model_validate_json(line)
        assert example.messages is not None and example.rejected is not None
        answers = [example.messages, example.rejected]
        encoded = [renderer.encode(Example(row=1, messages=turns), read.optimization.max_length) for turns in answers]
        tokens = [len(answer.ids) if any(answer.trained) else 0 for answer in encoded]
        prompt, *last = ([{"role": turn.role, "content": turn.content} for turn in turns] for turns in _cut(answers))
        if method == "dpo" and all(tokens):
            rows.append({"prompt": prompt, "chosen": last[0], "rejected": last[1]})
            counts.append(sum(tokens))
        elif method == "kto":
            kept = [place for place in (0, 1) if tokens[place]]
            rows += [{"prompt": prompt, "completion": last[place], "label": place == 0} for place in kept]
            counts += [tokens[place] for place in kept]
    order = epoch_order(len(rows), SEED, 0)
    return [rows[place] for place in order], [counts[place] for place in order]


def _cut(answers: list[list[Message]]) -> list[list[Message]]:
    """Return what both begin with, and the last turn of each."""
    return [answers[0][:-1], *(turns[-1:] for turns in answers)]


def run_ours(job: JobDir, tokens: list[int]) -> Found:
    """Train our job."""
    ended = run_process([sys.executable, "-m", "app.training", str(job.path)], _environment(), job.path.parent / "log.txt")
    steps = [event for event in job.read_events() if isinstance(event, StepLogged)]
    print({name: round(seconds, 1) for name, seconds in read_phases(job).items()}, file=sys.stderr)
    ends = [read_time(event.at) for event in steps]
    return _judge(ended, ends, [event.loss for event in steps], tokens)


def run_trl(job: JobDir, method: str, rows: list[dict[str, Any]], tokens: list[int], folder: Path) -> Found:
    """Train TRL's trainer on `rows`."""
    work = job.path.parent
    (work / "rows.json").write_text(json.dumps(rows), "utf-8")
    read = job.read_job()
    spec = {
        "method": method, "model": read.model.path, "rows_file": str(work / "rows.json"), "out": str(work / "trl"),
        "result": str(work / "trl.json"), "micro_batch": MICRO[method], "batch": read.optimization.effective_batch_size,
        "length": read.optimization.max_length, "learning_rate": LEARNING_RATE, "beta": read.beta, "rank": RANK, "seed": SEED,
    }  # fmt: skip
    command = [str(make_trl_python(folder)), str(Path(__file__).with_name("peer_preferences.py")), json.dumps(spec)]
    ended = run_process(command, _environment(), work / "trl.txt")
    told = json.loads((work / "trl.json").read_text("utf-8"))
    print({"reference": round(told["reference_seconds"], 1)}, file=sys.stderr)
    return _judge(ended, told["step_ends"], told["losses"], tokens)


def _environment() -> dict[str, str]:
    return {**os.environ, **trainer_environment(), "HF_HUB_OFFLINE": "1"}


def _judge(ended: Ended, ends: list[float], losses: list[float], tokens: list[int]) -> Found:
    assert len(ends) == len(tokens) == len(losses), f"{len(ends)} steps ended, {len(tokens)} are known"
    speed = sum(tokens[1:]) / (ends[-1] - ends[0])
    return Found(speed, ended.seconds, ended.peak_bytes, losses[0], losses[-1], ended.others_cores + ended.stolen_cores)


def write_table(found: dict[str, dict[str, Found]], arguments: argparse.Namespace, python: Path) -> str:
    """Return the figures as Markdown."""
    machine = describe_machine(python)
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    lines = [
        "# DPO and KTO on a processor, beside TRL",
        "",
        f"Written by `bench/training/preferences_trl.py --rows {arguments.rows}` on {time.strftime('%Y-%m-%d', time.gmtime())}. "
        f"{machine['processor']}, {machine['cores']} cores, {', '.join(machine['features'])}; {versions}.",
        "",
        *(line for line in (__doc__ or "").partition("\n\n")[2].strip().splitlines()),
        "",
        f"{arguments.rows} pairs, {arguments.batch} pairs (DPO) or answers (KTO) a step, max_length {arguments.length}. "
        "Tokens/s: of the steps after the first, without the reference; whole run: process start to end, with it. "
        "A star marks runs beside which other processes or guests took more than a tenth of a core.",
        "",
        "| method, trainer | tokens/s | ratio | whole run | peak memory | first loss | last loss |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for method, by_trainer in found.items():
        for trainer, run in by_trainer.items():
            ratio = by_trainer["Affinage"].steps_tokens_per_second / run.steps_tokens_per_second
            lines.append(
                f"| {method.upper()}, {trainer} | {run.steps_tokens_per_second:.0f}{'*' if run.disturbed_cores > 0.1 else ''} "
                f"| {'' if trainer == 'Affinage' else f'{ratio:.2f}x'} | {run.whole_seconds:.0f} s "
                f"| {run.peak_bytes / GIB:.2f} GiB | {run.first_loss:.4f} | {run.last_loss:.4f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=16, help="pairs")
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4, help="pairs, or rows, of a step")
    parser.add_argument("--methods", nargs="+", choices=tuple(MICRO), default=tuple(MICRO))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "affinage-bench-preferences")
    parser.add_argument("--write", type=Path, help="also write the table into this Markdown file")
    arguments = parser.parse_args()
    folder: Path = arguments.folder.absolute()
    python = make_trl_python(folder)
    kept = folder / f"preferences-{arguments.rows}-{arguments.length}-{arguments.batch}.json"
    stored = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    found = {method: {name: Found(**run) for name, run in runs.items()} for method, runs in stored.items()}
    for method in arguments.methods:  # what a cut-off call has finished is not done again
        runs = found.setdefault(method, {})
        for trainer in ("Affinage", "TRL"):
            if trainer in runs:
                continue
            job = write_job(folder, method, arguments.rows, arguments.length, arguments.batch)
            rows, counts = list_rows(job, method)
            tokens = [sum(counts[first : first + arguments.batch]) for first in range(0, len(counts), arguments.batch)]
            runs[trainer] = run_ours(job, tokens) if trainer == "Affinage" else run_trl(job, method, rows, tokens, folder)
            print(f"{method}, {trainer}: {runs[trainer]}", file=sys.stderr, flush=True)
            shutil.rmtree(job.path.parent)
            kept.write_text(json.dumps({m: {n: asdict(r) for n, r in by.items()} for m, by in found.items()}), "utf-8")
    table = write_table(found, arguments, python)
    print(table)
    if arguments.write:
        arguments.write.write_text(table, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
