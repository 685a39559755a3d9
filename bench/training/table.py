"""The tables that are published, and the same figures for a machine."""

import json
import platform
import statistics
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from runs import Results, Run
from trainers import AFFINAGE

GB = 1e9
ENOUGH_RUNS = 3
PACKAGES = ("torch", "transformers", "peft")
AS_IT_COMES, BEST_TRL, BEST_PLAIN = "TRL as it comes", "TRL: ", "plain loop: "
"""How the names of the peers' settings begin."""
ASKED_SPEED = {AS_IT_COMES: 5.5, BEST_TRL: 2.5, BEST_PLAIN: 1.8}
"""How many times as fast Affinage is meant to be."""
ASKED_LOSS, ASKED_SHARE = 0.01, 0.40
"""Largest distance of held-out losses, and smallest share of the machine's peak."""


def describe_machine(trl_python: Path) -> dict[str, Any]:
    """Return processor, cores, memory and the versions of everything that is compared."""
    processor, memory = platform.processor(), 0
    cpuinfo, meminfo = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    flags: set[str] = set()
    if cpuinfo.exists():
        lines = [line.partition(":") for line in cpuinfo.read_text("utf-8").splitlines()]
        processor = next((value.strip() for name, _, value in lines if name.startswith("model name")), processor)
        flags = set(next((value for name, _, value in lines if name.startswith("flags")), "").split())
        memory = int(meminfo.read_text("utf-8").split(maxsplit=2)[1]) * 1024
        cores = sum(name.startswith("processor") for name, _, _ in lines)
    else:
        cores = 0
    asked = "from importlib.metadata import version; print(version('trl'))"
    trl = subprocess.run([str(trl_python), "-c", asked], check=True, capture_output=True, text=True).stdout.strip()
    return {
        "processor": processor,
        "cores": cores,
        "memory_bytes": memory,
        "features": sorted(flags & {"amx_bf16", "avx512_bf16", "avx512f", "avx2"}),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES} | {"trl": trl},
    }


def middle(runs: list[Run]) -> float:
    """Return the median tokens/s."""
    return statistics.median(run.tokens_per_second for run in runs)


def summarise(results: Results) -> dict[str, Any]:
    """Return every figure of the tables by shape."""
    found: dict[str, Any] = {"machine": results.values.get("machine", {}), "shapes": {}}
    for stage, named in results.runs.items():
        if not stage.startswith("final "):
            continue
        name = stage.removeprefix("final ")
        losses = results.values.get(f"loss {name}", {})
        rows = {
            setting: {
                "tokens_per_second": middle(runs),
                "lowest": min(run.tokens_per_second for run in runs),
                "highest": max(run.tokens_per_second for run in runs),
                "peak_bytes": max(run.peak_bytes for run in runs),
                "wall_seconds": statistics.median(run.wall_seconds for run in runs),
                "first_step_seconds": statistics.median(run.first_step_seconds for run in runs),
                "heldout_loss": losses.get(setting),
                "runs": len(runs),
                "disturbed": sum(run.disturbed for run in runs),
            }
            for setting, runs in named.items()
        }
        ours = rows.get(AFFINAGE.name)
        peers = {setting: row for setting, row in rows.items() if setting != AFFINAGE.name}
        ratios = {}
        if ours:
            # Only rounds in which both ran: the machine is not equally fast in all.
            own = named[AFFINAGE.name]
            ratios = {setting: middle(own[: len(named[setting])]) / middle(named[setting][: len(own)]) for setting in peers}
        peaks, profile = results.values.get(f"peak {name}", []), results.values.get(f"profile {name}")
        reached = ours["tokens_per_second"] * profile["flops_per_token"] / 1e9 if ours and profile else None
        found["shapes"][name] = {
            "profile": profile,
            "reached_gflops": reached,
            "share_of_peak": reached / statistics.median(peaks) if reached and peaks else None,
            "workload": results.values.get(f"workload {name}", {}),
            "rows": rows,
            "ratios": ratios,
            "peak_gflops": peaks,
            "base_heldout_loss": losses.get("base"),
            "search": {
                setting: {
                    "tokens_per_second": middle(runs),
                    "peak_bytes": max(run.peak_bytes for run in runs),
                    "disturbed": sum(run.disturbed for run in runs),
                }
                for setting, runs in results.runs.get(f"search {name}", {}).items()
            },
        }
    return found


def list_goals(shape: dict[str, Any]) -> list[tuple[str, bool]]:
    """Return what was meant to be reached on a shape, with the figure, and whether it was."""
    rows: dict[str, Any] = shape["rows"]
    ours = rows.get(AFFINAGE.name)
    found: list[tuple[str, bool]] = []
    if not ours:
        return found
    for title, asked in ASKED_SPEED.items():
        for setting, ratio in shape["ratios"].items():
            if setting.startswith(title):
                found.append((f"{ratio:.2f}x {title.removesuffix(': ')} (asked: {asked}x)", ratio >= asked))
    for setting, row in rows.items():
        if setting.startswith(BEST_TRL):
            less = ours["peak_bytes"] < row["peak_bytes"]
            found.append((f"{ours['peak_bytes'] / GB:.2f} GB beside TRL's {row['peak_bytes'] / GB:.2f} GB (asked: less)", less))
        if setting != AFFINAGE.name and ours["heldout_loss"] and row["heldout_loss"]:
            more = ours["heldout_loss"] / row["heldout_loss"] - 1
            name = setting.partition(":")[0].partition(",")[0]
            found.append((f"held-out loss {more:+.2%} beside {name} (asked: at most {ASKED_LOSS:+.0%})", more <= ASKED_LOSS))
    if shape["share_of_peak"]:
        share = shape["share_of_peak"]
        found.append((f"{share:.0%} of the peak (asked: {ASKED_SHARE:.0%})", share >= ASKED_SHARE))
    return found


def write_document(results: Results, folder: Path) -> str:
    """Return everything that was measured, in Markdown. What scale.py and learning.py left in `folder` is part of it."""
    figures = summarise(results)
    parts = [_write_head(figures["machine"], results)]
    parts += [_write_shape(name, shape) for name, shape in figures["shapes"].items()]
    for file, write in (("scale.json", _write_scale), ("learning.json", _write_learning)):
        if (folder / file).exists():
            parts.append(write(json.loads((folder / file).read_text("utf-8"))))
    return "\n".join(parts)


def _write_head(machine: dict[str, Any], results: Results) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in machine.get("versions", {}).items())
    days = sorted({run.at[:10] for named in results.runs.values() for runs in named.values() for run in runs})
    return f"""\
# Training on a processor, beside TRL and a plain loop

Written by `make bench-training` (bench/training/compare.py) on {" and ".join(days)}. {machine.get("processor")},
{machine.get("cores")} cores, {machine.get("memory_bytes", 0) / GB:.0f} GB, {", ".join(machine.get("features", []))}, kernel \
{machine.get("kernel")}; Python {machine.get("python")}, {versions}.

Every trainer is a process of its own and gets the same rows in the same order, the same max_length, effective batch,
adapter (rank 16 on every linear layer), learning rate (2e-4, linear, no warm-up), and the environment in which Affinage
runs its trainer (allocator with huge pages), unless the line says otherwise. Tokens/s: real tokens, no padding, of the
steps after the first. Peak memory: resident, of the process. Whole run: process start to end. Finalists ran in turns;
medians, lowest and highest, number of runs. The held-out loss (nats per answer token) is measured for all adapters by the
same code (transformers + PEFT, fp32). "TRL as it comes" is `SFTTrainer` with nothing set that it does not ask for.
The search for the peers' best settings tries micro-batches of 1, 2, 4, 8 rows, then every other switch, one at a time,
from the best of them, then the two that helped most together; on the shapes after the first, the micro-batch with the
switches that were best there. What was tried is listed below each shape. A run beside which other processes, or other guests
of the machine, took more than a tenth of a core was done again; a star marks those that were disturbed to the last.
"""


def _write_shape(name: str, shape: dict[str, Any]) -> str:
    work = shape["workload"]
    lines = [
        f"## {name}",
        "",
        f"{work.get('rows')} rows, {work.get('tokens', 0):,} tokens ({work.get('answers', 0):.0%} learned), "
        f"{work.get('batch')} rows a step, max_length {work.get('length')}.",
        "",
        "| trainer | tokens/s (lowest to highest, runs) | Affinage is | peak memory | whole run | held-out loss |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for setting, row in sorted(shape["rows"].items(), key=lambda item: -item[1]["tokens_per_second"]):
        ratio, loss = shape["ratios"].get(setting), row["heldout_loss"]
        speed = f"{row['tokens_per_second']:.0f}{_mark(row)} ({row['lowest']:.0f} to {row['highest']:.0f}, {row['runs']})"
        lines.append(
            f"| {setting} | {speed} | {f'{ratio:.2f}x as fast' if ratio else ''} | {row['peak_bytes'] / GB:.2f} GB "
            f"| {row['wall_seconds']:.0f} s | {f'{loss:.4f}' if loss else ''} |"
        )
    if goals := list_goals(shape):
        lines += ["", *(f"- {'reached' if met else '**not reached**'}: {text}" for text, met in goals)]
    if any(row["runs"] < ENOUGH_RUNS for row in shape["rows"].values()):
        lines += ["", f"Fewer than {ENOUGH_RUNS} runs of each finalist: chance has a larger part in the figures."]
    if shape["base_heldout_loss"]:
        lines += ["", f"Held-out loss before training: {shape['base_heldout_loss']:.4f}."]
    if shape["profile"] and shape["peak_gflops"]:
        lines += ["", _write_profile(shape)]
    if shape["search"]:
        tried = sorted(shape["search"].items(), key=lambda item: -item[1]["tokens_per_second"])
        lines += ["", "The search (one run each, fewer steps):", ""]
        lines += ["| setting | tokens/s | peak memory |", "|---|---:|---:|"]
        lines += [f"| {n} | {row['tokens_per_second']:.0f}{_mark(row)} | {row['peak_bytes'] / GB:.2f} GB |" for n, row in tried]
    return "\n".join([*lines, ""])


def _mark(row: dict[str, Any]) -> str:
    """Return a star where a run counts although somebody else worked beside it."""
    return "*" if row["disturbed"] else ""


def _write_profile(shape: dict[str, Any]) -> str:
    profile, peak = shape["profile"], statistics.median(shape["peak_gflops"])
    groups = ", ".join(f"{group} {share:.0%}" for group, share in profile["groups"].items())
    return (
        f"Matrix products of our step: {profile['flops_per_token'] / 1e9:.2f} GFLOP a token, counted from their shapes; "
        f"at the speed above {shape['reached_gflops']:.0f} GFLOP/s, {shape['share_of_peak']:.0%} of the peak of "
        f"{peak:.0f} GFLOP/s in bfloat16 that the machine showed in the same rounds "
        f"({min(shape['peak_gflops']):.0f} to {max(shape['peak_gflops']):.0f}). Where the time of a profiled step goes: {groups}."
    )


def _write_scale(found: dict[str, Any]) -> str:
    lines = ["## Start-up and long files", ""]
    if start := found.get("start"):
        phases = ", ".join(f"{name} {seconds:.1f}" for name, seconds in start["phases"].items())
        lines.append(
            f"- From the start of the process to the first step, without the probe: {start['startup_seconds']:.1f} s "
            f"(median of {len(start['all'])}; seconds: {phases})."
        )
    if files := found.get("files"):
        speeds = ", ".join(f"{speed:.0f} tokens/s on {int(rows):,} rows" for rows, speed in files["tokens_per_second"].items())
        lines.append(f"- 200 steps of 2 short rows, both processes in turns: {speeds} (ratio {files['ratio']:.3f}).")
    if memory := found.get("memory"):
        sizes = ", ".join(f"{size / 1e9:.3f} GB on {int(rows):,} rows" for rows, size in memory.items())
        lines.append(f"- Peak resident memory since the process began, tokenising included: {sizes}.")
    return "\n".join([*lines, ""])


def _write_learning(found: dict[str, Any]) -> str:
    lines = ["## What is learnt", ""]
    if (book := found.get("book")) and book["ratio"]:
        lines.append(
            f"- {book['rows']} instructions of a book, {book['heldout']} held out, {book['epochs']} epoch(s): held-out loss "
            f"{book['base_heldout_loss']:.4f} before, {book['affinage']['heldout_loss']:.4f} after with Affinage, "
            f"{book['trl']['heldout_loss']:.4f} with TRL (ratio {book['ratio']:.4f})."
        )
    for name, canary in found.get("canaries", {}).items():
        lines.append(
            f"- Canary set {name}: {canary['answered']} of {canary['questions']} questions answered exactly after "
            f"{canary['steps']} steps."
        )
    return "\n".join([*lines, ""])
