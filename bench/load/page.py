"""The page of figures, from what one run measured: each aim of issue 5 beside it."""

import platform
import time
from pathlib import Path
from typing import Any

OPENING_MS = 300.0
P99_MS = 250.0
MEMORY_BYTES = 300 * 10**6
SERVER_CORES = 0.15
CALM_CORES = 0.1
"""Other processes that took more than this share of a core are mentioned as such."""


def write_page(figures: dict[str, Any]) -> str:
    """Return docs/benchmarks/load.md."""
    asked, load = figures["asked"], figures["load"]
    opened = "\n".join(
        f"| {name} | {took['first']:.0f} ms | {took['median']:.0f} ms | {took['worst']:.0f} ms "
        f"| {told(took['first'] < OPENING_MS)} |"
        for name, took in figures["opened"].items()
    )
    lost = load["gaps_or_doubles"] + load["followers_behind"]
    rows = [
        ("events lost or doubled", f"{lost} of {load['events_seen']:,} seen", "none", lost == 0),
        ("answers that were refused or broke off", f"{load['refused']} of {load['answers']:,}", "none", load["refused"] == 0),
        ("answer to a poll, 99 of 100", f"{load['p99_ms']:.0f} ms", f"< {P99_MS:.0f} ms", load["p99_ms"] < P99_MS),
        ("memory of the server, peak", f"{load['server_peak_bytes'] / 1e6:.0f} MB", f"< {MEMORY_BYTES / 1e6:.0f} MB",
         load["server_peak_bytes"] < MEMORY_BYTES),
        ("processor time of the server", f"{load['server_cores']:.3f} cores", f"<= {SERVER_CORES} cores",
         load["server_cores"] <= SERVER_CORES),
    ]  # fmt: skip
    table = "\n".join(f"| {name} | {value} | {aim} | {told(met)} |" for name, value, aim, met in rows)
    others = load["other_cores"]
    calm = f"Other processes took {others:.2f} cores meanwhile"
    calm += "." if others < CALM_CORES else ": **the machine was shared, so that times are longer than on one of its own.**"
    return f"""# Many clients, many jobs

Written by `make load` (bench/load) on {time.strftime("%Y-%m-%d")}: {asked["jobs"]:,} ended jobs, a run of
{asked["long_steps"]:,} steps, then a real training of the embedded model with {asked["followers"]} clients that follow
its events and {asked["pollers"]} that ask for lists every 5 s, all on {figures["cores"]} cores ({processor()},
Python {platform.python_version()}). {asked["rounds"]} x {asked["seconds"]:.0f} s with clients, as long without, in turns. {calm}

| opened | first time | median | worst | < {OPENING_MS:.0f} ms |
|---|---:|---:|---:|---|
{opened}

The server starts in {figures["start_seconds"]:.1f} s on this folder.

| under load | measured | aim | met |
|---|---:|---:|---|
{table}

Without clients the server took {load["server_cores_without_clients"]:.3f} cores; the clients themselves took
{load["client_cores"]:.3f}. A poll was answered in {load["p50_ms"]:.0f} ms (median), at worst in {load["worst_ms"]:.0f} ms.

A step of the training took {load["step_seconds_quiet"]:.3f} s without clients and {load["step_seconds_loaded"]:.3f} s with
them ({load["slowdown"]:+.1%}; medians of {load["steps"][0]} and {load["steps"][1]} steps). {shared_out(load)}
"""


def shared_out(load: dict[str, Any]) -> str:
    """Return whose the slowdown is, by processor time."""
    if load["slowdown"] <= 0:
        return "Other processes changed a step by more than the clients did: what these cost cannot be told from this run."
    return (
        f"Shared out by processor time, {load['slowdown_without_clients_share']:+.1%} of it is the server's;\n"
        "the rest is that of the clients, who would run elsewhere."
    )


def told(met: bool) -> str:
    """Return whether an aim was met, in a word."""
    return "yes" if met else "**no**"


def processor() -> str:
    """Return the processor's name as the kernel tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
