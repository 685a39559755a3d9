"""The tables that are published, and the same figures for a machine."""

import platform
import statistics
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from runs import Results, Run
from trainers import AFFINAGE

GB = 1e9
PACKAGES = ("torch", "transformers", "peft")


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
            }
            for setting, runs in named.items()
        }
        ours = rows.get(AFFINAGE.name)
        peers = {setting: row for setting, row in rows.items() if setting != AFFINAGE.name}
        ratios = {}
        if ours:
            ratios = {setting: ours["tokens_per_second"] / row["tokens_per_second"] for setting, row in peers.items()}
        found["shapes"][name] = {
            "workload": results.values.get(f"workload {name}", {}),
            "rows": rows,
            "ratios": ratios,
            "peak_gflops": results.values.get(f"peak {name}", []),
            "base_heldout_loss": losses.get("base"),
            "search": {
                setting: {"tokens_per_second": middle(runs), "peak_bytes": max(run.peak_bytes for run in runs)}
                for setting, runs in results.runs.get(f"search {name}", {}).items()
            },
        }
    return found


def write_tables(results: Results) -> str:
    """Return the tables in Markdown."""
    figures = summarise(results)
    lines = []
    for name, shape in figures["shapes"].items():
        work = shape["workload"]
        lines += [
            f"## {name}",
            "",
            f"{work.get('rows')} rows, {work.get('tokens', 0):,} tokens ({work.get('answers', 0):.0%} learned), "
            f"{work.get('batch')} rows a step, max_length {work.get('length')}.",
            "",
            "| trainer | tokens/s (lowest to highest) | Affinage is | peak memory | whole run | held-out loss |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for setting, row in shape["rows"].items():
            ratio = shape["ratios"].get(setting)
            loss = row["heldout_loss"]
            lines.append(
                f"| {setting} | {row['tokens_per_second']:.0f} ({row['lowest']:.0f} to {row['highest']:.0f}, {row['runs']}) "
                f"| {f'{ratio:.2f}x as fast' if ratio else ''} | {row['peak_bytes'] / GB:.2f} GB "
                f"| {row['wall_seconds']:.0f} s | {f'{loss:.4f}' if loss else ''} |"
            )
        if shape["base_heldout_loss"]:
            lines += ["", f"Held-out loss before training: {shape['base_heldout_loss']:.4f}."]
        if shape["search"]:
            tried = sorted(shape["search"].items(), key=lambda item: -item[1]["tokens_per_second"])
            lines += [
                "",
                "The search (one run each, fewer steps):",
                "",
                "| setting | tokens/s | peak memory |",
                "|---|---:|---:|",
            ]
            lines += [f"| {n} | {row['tokens_per_second']:.0f} | {row['peak_bytes'] / GB:.2f} GB |" for n, row in tried]
        lines.append("")
    return "\n".join(lines)
