"""`hot_spots.py JOB_FOLDER [--json]`: where the time of our trainer's steps goes, and what share of the peak it reaches.

Runs the job as `python -m app.training` does, with torch's profiler on for some steps after the warm-up. Operators are
put into groups; the floating point operations of matrix products and of attention are counted from their shapes. Shares are
of the time of all lanes (micro-batches side by side, one thread each). The share of the peak uses the seconds of steps that
ran without the profiler.
"""

import argparse
import json
import math
import os
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.contracts.events import Event, StepLogged
from app.storage.job_dir import JobDir

PROFILED_STEPS = 2
GROUPS = {
    "matrix products": ("mm", "addmm", "addmm_", "linear", "mkldnn_linear", "_linear_pointwise", "addmm.out", "mm.out"),
    "attention products": ("attention", "attention_backward", "bmm", "baddbmm", "baddbmm_",
                           "_scaled_dot_product_flash_attention_for_cpu",
                           "_scaled_dot_product_flash_attention_for_cpu_backward"),
    "copies and casts": ("copy_", "cat", "clone", "_to_copy", "fill_", "zero_", "index", "index_select", "index_put_",
                         "_index_put_impl_", "embedding", "index_copy_", "index_add_", "gather", "scatter_", "slice_backward"),
    "softmax": ("_softmax", "_softmax_backward_data", "_log_softmax", "logsumexp", "_masked_softmax", "exp", "exp_"),
    "optimizer": ("_fused_adamw_", "_foreach_div_", "_foreach_norm", "_foreach_mul_"),
}  # fmt: skip
"""Operators by what they are for; every other one is element-wise: norms, activations, rotary positions, sums."""
ELEMENTWISE = "element-wise: norms, activations, rotary, sums"
PYTHON = "Python, dispatch and waiting"


@dataclass
class Profile:
    """What the profiler saw of some steps."""

    seconds: float = 0.0
    """Of the profiled steps by the clock."""
    lanes: int = 1
    """Threads that worked in them at the same time."""
    tokens: int = 0
    groups: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    operators: dict[str, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0, 0.0]))
    """Name -> seconds, calls, floating point operations."""
    product_flops: float = 0.0
    product_seconds: float = 0.0
    sizes: dict[str, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0, 0.0]))
    """Products by shape, as `operators`."""


def count_flops(name: str, shapes: list[Any]) -> float:
    """Return the floating point operations of a matrix product from the shapes of its inputs; 0 for anything else."""
    sized = [shape for shape in shapes if isinstance(shape, list | tuple) and len(shape) >= 2 and all(shape)]
    match name:
        case "mm" | "bmm":  # `linear` calls one of them
            first, second = sized[:2]
            return 2.0 * math.prod(first) * second[-1]
        case "addmm" | "addmm_" | "baddbmm" | "baddbmm_":
            first, second = sized[-2:]
            return 2.0 * math.prod(first) * second[-1]
        case "attention" | "attention_backward":
            # Ours (primitives.py): Q K^T and P V, and in the backward pass dP, dV, dQ, dK; the scores that are computed
            # again do not count. Half of them lie in the future.
            rows, heads, length, width = sized[0]
            products = 2 if name == "attention" else 4
            return products * rows * heads * length * length * width
    return 0.0


def read_profile(events: Any, profile: Profile) -> None:
    """Add the profiler's operators to `profile`. Self time: what an operator calls is counted there."""
    known = {operator: group for group, operators in GROUPS.items() for operator in operators}
    for event in events:
        seconds = event.self_cpu_time_total / 1e6
        name = event.key.removeprefix("aten::").removeprefix("affinage::")
        if event.key.startswith("ProfilerStep") or not seconds:
            continue
        is_operator = "::" in event.key
        group = known.get(name, ELEMENTWISE) if is_operator else PYTHON
        flops = 0.0
        if group in ("matrix products", "attention products"):
            flops = count_flops(name, event.input_shapes) * event.count
            profile.product_flops += flops
            profile.product_seconds += seconds
            size = profile.sizes[f"{name} {[shape for shape in event.input_shapes if shape]}"]
            size[0], size[1], size[2] = size[0] + seconds, size[1] + event.count, size[2] + flops
        profile.groups[group] += seconds
        entry = profile.operators[name]
        entry[0], entry[1], entry[2] = entry[0] + seconds, entry[1] + event.count, entry[2] + flops


def run(job_folder: Path) -> tuple[Profile, list[float]]:
    """Run the job; return the profile and the seconds of the steps without the profiler (but the first)."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch

    from app.training.engine import train
    from app.training.stopping import StopWatch

    profile, plain = Profile(), []
    profiler = torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU],
        record_shapes=True,
        experimental_config=torch._C._profiler._ExperimentalConfig(profile_all_threads=True),
    )
    append = JobDir.append
    state = {"tokens": 0}

    def watch(self: JobDir, event: Event) -> Any:
        written = append(self, event)
        if isinstance(event, StepLogged):
            last = event.total_steps
            begin = last - PROFILED_STEPS
            if event.step == begin:
                state["tokens"] = event.tokens
                profiler.start()
            elif event.step > begin:
                profile.seconds += event.step_seconds
            if 1 < event.step <= begin:
                plain.append((event.tokens - state["last"]) / event.step_seconds)
            if event.step == last:
                profiler.stop()
                profile.tokens = event.tokens - state["tokens"]
            state["last"] = event.tokens
        return written

    JobDir.append = watch  # type: ignore[method-assign]
    job_dir = JobDir(job_folder)
    train(job_dir, StopWatch(job_dir))
    worked = {event.thread for event in profiler.events() if event.name in ("aten::mm", "aten::addmm")}
    profile.lanes = min(len(worked), torch.get_num_threads())
    read_profile(profiler.key_averages(group_by_input_shape=True), profile)
    profile.groups[PYTHON] += max(0.0, profile.lanes * profile.seconds - sum(profile.groups.values()))
    return profile, plain


def main() -> None:
    """Run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job_folder", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    profile, speeds = run(arguments.job_folder.absolute())
    speed = statistics.median(speeds) if speeds else profile.tokens / profile.seconds  # a run of three steps has no others
    flops = profile.product_flops / profile.tokens
    content = {
        "tokens_per_second": speed,
        "profiled_tokens_per_second": profile.tokens / profile.seconds,
        "flops_per_token": flops,
        "product_gflops": profile.product_flops * profile.lanes / profile.product_seconds / 1e9,
        "reached_gflops": flops * speed / 1e9,
        "lanes": profile.lanes,
        "groups": {
            name: seconds / profile.lanes / profile.seconds
            for name, seconds in sorted(profile.groups.items(), key=lambda i: -i[1])
        },
        "operators": _largest(profile.operators, 30, profile.lanes * profile.seconds),
        "sizes": _largest(profile.sizes, 24, profile.lanes * profile.seconds),
    }
    if arguments.json:
        print(json.dumps(content))
        return
    for name in ("tokens_per_second", "profiled_tokens_per_second", "flops_per_token", "product_gflops", "reached_gflops"):
        print(f"{name}: {content[name]:,.1f}")
    for name, share in content["groups"].items():  # type: ignore[attr-defined]
        print(f"  {share:6.1%}  {name}")
    for title in ("operators", "sizes"):
        print(f"-- {title}: share, calls, us a call, GFLOP/s")
        for row in content[title]:  # type: ignore[attr-defined]
            print(f"  {row['share']:6.1%} {row['calls']:7d} {row['us']:9.0f} {row['gflops']:7.0f}  {row['name']}")


def _largest(entries: dict[str, list[float]], count: int, whole: float) -> list[dict[str, Any]]:
    ordered = sorted(entries.items(), key=lambda item: -item[1][0])[:count]
    return [
        {"name": name, "share": s / whole, "calls": int(calls), "us": s / calls * 1e6, "gflops": flops / s / 1e9}
        for name, (s, calls, flops) in ordered
    ]


if __name__ == "__main__":
    sys.exit(main())
