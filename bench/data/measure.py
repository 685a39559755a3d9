"""How fast a data set is read, taken in, looked through and tokenised; each stage is a process of its own.

    .venv/bin/python bench/data/measure.py [--size-mb 100] [--rounds 3] [--peer PYTHON] [--large-gb 2] [--write FILE.md]

The file is JSON Lines of real rows (real_rows.py). One core for every stage but the tokenisation, which has two. Speeds are
megabytes (10^6) of the file per second. `--peer` names the Python of an environment that has the `datasets` library; without
it, its line is left out. `--large-gb 2` also imports a file of that size with the command line, and breaks it off half way.
What stands below the mark `<!-- kept -->` in the written file stays: it is of other programs (fuzz.py).
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from large import measure_large
from real_rows import write_rows

HERE = Path(__file__).resolve().parent
LABELS = {
    "read": "read alone (`data read`, without printing)",
    "take_in": "**read + map + exact duplicates + split + write**",
    "analyse": "second pass: near duplicates, patterns, languages, lengths",
    "python_json": "for comparison: Python's `json.loads` on every line",
    "peer_datasets": "for comparison: `datasets.load_dataset` into its Arrow cache",
}
GOALS_MB_S = {"take_in": 50, "analyse": 5}
GOAL_TOKENS_S = 1_000_000
TOKENISED_MB = 40
"""Of the file: enough for seconds of work."""
KEPT = "<!-- kept -->"


def run_stage(stage: str, file: Path, folder: Path, cores: int, python: str = sys.executable) -> dict[str, Any]:
    """Return the figures that a stage prints."""
    command = [python, str(HERE / "stages.py"), stage, str(file), str(folder), str(cores)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{stage}: {done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def measure(size_mb: float, rounds: int, peer: str | None) -> dict[str, Any]:
    """Measure every stage so many times, in turns."""
    stages = ["read", "take_in", "analyse", "python_json"]
    found: dict[str, list[dict[str, Any]]] = {stage: [] for stage in LABELS} | {"tokenise": []}
    with tempfile.TemporaryDirectory(prefix="affinage-bench-") as name:
        folder = Path(name)
        file = folder / "rows.jsonl"
        source = write_rows(file, round(size_mb * 1e6))
        subprocess.run([sys.executable, "-m", "app.training.embedded", "--tokenizer", str(folder / "model")], check=True)
        for _ in range(rounds):
            for stage in stages:
                found[stage].append(run_stage(stage, file, folder, 1))
            if peer is not None:
                found["peer_datasets"].append(run_stage("peer_datasets", file, folder, 1, peer))
        part = folder / "part.jsonl"
        write_rows(part, round(min(size_mb, TOKENISED_MB) * 1e6))
        run_stage("take_in", part, folder, 1)
        for _ in range(rounds):
            found["tokenise"].append(run_stage("tokenise", part, folder, 2))
            for cache in (folder / "ds" / "tokens").iterdir():
                cache.unlink()
        return {"source": source, "bytes": file.stat().st_size, "stages": {stage: runs for stage, runs in found.items() if runs}}


def show(figures: dict[str, Any], large: dict[str, Any] | None) -> str:
    """Return the figures as a page of Markdown."""
    size, stages = figures["bytes"], figures["stages"]
    taken = stages["take_in"][0]
    lines = [
        "# Data sets: how fast they are read and looked through",
        "",
        f"Written by `bench/data/measure.py` on {datetime.now(UTC):%Y-%m-%d}. {_machine()}. {_disturbance()}",
        "",
        f"The file: {size / 1e6:.0f} MB of JSON Lines, {taken['rows']:,} usable rows with `instruction`, `input` and `output`:",
        f"the rows of `{figures['source']}`, then rows of as many sentences drawn anew from them (bench/data/real_rows.py).",
        f"{taken['duplicates']:,} exact duplicates, {taken['problems']:,} rows set aside.",
        "Each stage is a process of its own on one core. MB/s of processor time: median (best) of the rounds; of wall time,",
        "where waiting for the disk and for other programs counts: the median.",
        "",
        "| stage | MB/s of processor time | asked for | MB/s of wall time | peak memory |",
        "|---|---:|---:|---:|---:|",
    ]
    for stage, label in LABELS.items():
        if runs := stages.get(stage):
            used, passed = ([size / 1e6 / run[name] for run in runs] for name in ("cpu_seconds", "seconds"))
            lines.append(
                f"| {label} | {statistics.median(used):.1f} ({max(used):.1f}) | {GOALS_MB_S.get(stage, '')} |"
                f" {statistics.median(passed):.1f} | {max(run['peak_bytes'] for run in runs) / 1e6:.0f} MB |"
            )
    counted = stages["tokenise"][0]
    speeds = [run["tokens"] / run["seconds"] for run in stages["tokenise"]]
    lines += [
        "",
        f"**Tokenisation** on two cores, {counted['rows']:,} rows, {counted['tokens']:,} tokens, under the embedded model's",
        "tokenizer and template, template rendering, masks and checks included:",
        f"{statistics.median(speeds):,.0f} tokens/s of wall time, best {max(speeds):,.0f} (asked for: {GOAL_TOKENS_S:,}),",
        f"{max(run['peak_bytes'] for run in stages['tokenise']) / 1e6:.0f} MB for the largest process.",
    ]
    if runs := stages.get("peer_datasets"):
        lines += [
            "",
            f"**Beside the `datasets` library** {runs[0]['version']} on the same file and one core: taking it in takes"
            f" {_ratio(stages, 'take_in'):.1f} times",
            f"its processor time, reading alone {_ratio(stages, 'read'):.1f} times. The library maps nothing, looks for no",
            "duplicates, splits nothing and names no row.",
        ]
    return "\n".join([*lines, *(_show_large(large) if large else []), ""])


def _ratio(stages: dict[str, list[dict[str, Any]]], stage: str) -> float:
    """Return the processor time of a stage in that of the `datasets` library."""
    ours, peer = (statistics.median(run["cpu_seconds"] for run in stages[name]) for name in (stage, "peer_datasets"))
    return ours / peer


def _show_large(large: dict[str, Any]) -> list[str]:
    return [
        "",
        f"**{large['bytes'] / 1e9:.1f} GB of JSON Lines** with `affinage data import` on a terminal: {large['seconds']:.0f} s,"
        f" {large['cpu_seconds']:.0f} s of",
        f"them processor time, the start included; peak memory {large['peak_bytes'] / 1e6:.0f} MB (asked for: under 300);",
        f"progress shown {large['shown']} times. Ctrl-C after {large['broken_after_seconds']:.0f} s: ended in"
        f" {large['broken_end_seconds']:.2f} s with status {large['broken_status']};",
        f"{large['left_bytes']} bytes left among the data sets.",
    ]


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")
    return f"{cpu or platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}"


def _disturbance() -> str:
    return f"Load average after the last stage: {os.getloadavg()[0]:.1f}."


def main() -> None:
    """Measure and print, or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mb", type=float, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", help="the Python of an environment with the datasets library")
    parser.add_argument("--large-gb", type=float, help="also import a file of so many GB, and break it off")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    figures = measure(asked.size_mb, asked.rounds, asked.peer)
    large = measure_large(asked.large_gb) if asked.large_gb else None
    text = show(figures, large)
    if asked.write:
        before = asked.write.read_text("utf-8") if asked.write.exists() else ""
        kept = before[before.index(KEPT) :] if KEPT in before else ""
        asked.write.write_text(f"{text}\n{kept}" if kept else text, "utf-8")
    print(json.dumps(figures | {"large": large}) if asked.json else text)


if __name__ == "__main__":
    main()
