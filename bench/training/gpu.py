"""`.venv/bin/python bench/training/gpu.py [--write FILE]`: our step beside plain transformers + PEFT on one NVIDIA card.

Real shapes with random weights, made on the card, so that nothing is fetched. The same ids, the same adapter, the same
effective batch; each trainer in a process of its own, in turns. Speed is tokens per second after the first steps; memory
what PyTorch's allocator had in tensors and had reserved at the peak; MFU the model's own operations (planner/work.py) over
what the card does in products of 8192 x 8192 bfloat16 numbers, measured in the same run. `--device cpu --only tiny` shows
on any machine that the benchmark itself works.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from app.jobs.executors.environment import trainer_environment

Trainer = Literal["affinage", "eager", "plain"]
ROUNDS: dict[Trainer, int] = {"affinage": 2, "eager": 1, "plain": 2}
"""How often each runs on a shape. `eager` is ours without recorded graphs (training/graphs.py)."""
RANK = 16
WARM_STEPS, TIMED_STEPS = 4, 8
"""Our third step is recorded, the fourth the first to be replayed alone."""
LIMIT_SECONDS, ALL_SECONDS = 120, 570
"""Of one process, and of all: what is not begun by then is not measured, and the table says so."""
PEAK_SIZE = {"cuda": 8192, "cpu": 1024}


@dataclass(frozen=True)
class Shape:
    """One row of the table."""

    config: dict[str, Any]
    """What transformers' `AutoConfig.for_model` takes."""
    rows: int = 8
    """Of a micro-batch, which is a step here."""
    length: int = 512


def llama(hidden: int, inner: int, layers: int, heads: tuple[int, int], vocab: int, **more: Any) -> dict[str, Any]:
    """Return a configuration of the Llama family; `heads` of queries, and of keys and values."""
    return {
        "model_type": "llama", "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers,
        "num_attention_heads": heads[0], "num_key_value_heads": heads[1], "vocab_size": vocab, "max_position_embeddings": 4096,
        "use_cache": False, **more,
    }  # fmt: skip


def gpt2(width: int, layers: int, heads: int) -> dict[str, Any]:
    """Return a configuration of GPT-2."""
    return {"model_type": "gpt2", "n_embd": width, "n_layer": layers, "n_head": heads, "use_cache": False}


SHAPES: dict[str, Shape] = {
    "tiny": Shape(llama(64, 128, 2, (4, 2), 512), rows=2, length=64),
    "GPT-2 124M": Shape(gpt2(768, 12, 12)),
    "GPT-2 774M": Shape(gpt2(1280, 36, 20)),
    "SmolLM2-135M": Shape(llama(576, 1536, 30, (9, 3), 49152, tie_word_embeddings=True)),
    "Qwen2.5-1.5B": Shape(llama(1536, 8960, 28, (12, 2), 151936, tie_word_embeddings=True, model_type="qwen2")),
    "Llama-3.1-8B": Shape(llama(4096, 14336, 32, (32, 8), 128256), rows=4),
}
"""Sizes of the published config.json files. `tiny` is only for trying the benchmark."""


@dataclass(frozen=True)
class Measured:
    """What one process found."""

    tokens_per_second: float
    allocated_bytes: int
    reserved_bytes: int
    loss: float
    losses: list[float]
    """Of every step, the warm-up too."""
    flops_per_second: float
    """Of the model's operations and the adapter's, as the planner counts them for our step; the same number for both."""


def make_rows(shape: Shape, vocab: int) -> list[list[int]]:
    """Return random ids, the same for every trainer."""
    draw = random.Random(0)
    return [[draw.randrange(vocab) for _ in range(shape.length)] for _ in range(shape.rows)]


def prepare_ours(shape: Shape, device: torch.device, rows: list[list[int]], *, recorded: bool) -> Callable[[], float]:
    """Return one optimizer step of our engine."""
    from transformers import AutoConfig
    from transformers.initialization import no_init_weights

    from app.contracts.job import Lora
    from app.planner.shapes import find_linears, shape_from_config
    from app.storage.job_dir import JobDir
    from app.training.assembly import assemble, build_unloaded, finish_gradient, update
    from app.training.batching import Row
    from app.training.gradient import Computer, Limits
    from app.training.graphs import find_graphs

    config = AutoConfig.for_model(**shape.config)
    with no_init_weights():
        model = build_unloaded(config, device=device, kind=device.type, dtype="bfloat16", checkpointing=False)  # type: ignore[arg-type]
    fill(model)
    targets = list(find_linears(shape_from_config(config.to_dict())))
    lora = Lora(rank=RANK, alpha=2 * RANK, dropout=0.0, target_modules=targets, fan_in_fan_out=config.model_type == "gpt2")
    made = assemble(model, lora, kind=device.type)  # type: ignore[arg-type]
    limits = Limits(rows=shape.rows, tokens=None)
    graphs = find_graphs(
        made.head, made.parameters, device, 0, shape.length,
        checkpointing=False, quantized=False, say_closed=lambda reason: print(f"not recorded: {reason}", file=sys.stderr),
    )  # fmt: skip
    computer = Computer(
        made.head, made.parameters, device, 0, shape.length, limits, JobDir(Path("/nowhere")), lambda: None,
        graphs=graphs if recorded else None,
    )  # fmt: skip
    half = shape.length // 2
    prepared = [Row(row, list(range(half, shape.length))) for row in rows]

    def step() -> float:
        loss = computer.accumulate_gradient(prepared)
        finish_gradient(made.parameters, len(rows) * half, 1.0)
        update(made.optimizer, 1e-4)
        return loss / (len(rows) * half)

    return step


def prepare_plain(shape: Shape, device: torch.device, rows: list[list[int]]) -> Callable[[], float]:
    """Return one optimizer step as one writes it with transformers and PEFT alone."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    config = AutoConfig.for_model(**shape.config)
    with device, no_init_weights():
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
    fill(model)
    adapter = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    tuned: Any = get_peft_model(model, adapter).train()
    trained = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0, fused=True)
    ids = torch.tensor(rows, device=device)
    labels = ids.clone()
    labels[:, : shape.length // 2] = -100

    def step() -> float:
        loss = tuned(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss)

    return step


def fill(model: torch.nn.Module) -> None:
    """Give the weights small numbers, the same in both trainers; one matrix for words read and predicted where the model has one.

    transformers ties them when it makes the first numbers, which was left out.
    """
    model.tie_weights()  # type: ignore[operator]
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.02)
            else:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)


def measure_one(name: str, trainer: Trainer, device: torch.device) -> Measured:
    """Take the steps of one trainer on one shape."""
    from transformers import AutoConfig

    from app.planner.run_shape import RunShape
    from app.planner.shapes import count_adapter_params, find_linears, shape_from_config
    from app.planner.work import count_step_work

    shape = SHAPES[name]
    sizes = shape_from_config(AutoConfig.for_model(**shape.config).to_dict())
    rows = make_rows(shape, sizes.vocab)
    if trainer == "plain":
        step = prepare_plain(shape, device, rows)
    else:
        step = prepare_ours(shape, device, rows, recorded=trainer == "affinage")
    losses = [step() for _ in range(WARM_STEPS)]
    seconds = []
    for _ in range(TIMED_STEPS):
        synchronise(device)
        started = time.perf_counter()
        losses.append(step())
        synchronise(device)
        seconds.append(time.perf_counter() - started)
    adapter = count_adapter_params(sizes, RANK, list(find_linears(sizes)))
    run = RunShape("cuda", shape.rows, shape.length, "bfloat16", "none", adapter, RANK, checkpointing=False, compute_capability=8)
    tokens = shape.rows * shape.length
    work = count_step_work(sizes, run).at(shape.rows, shape.length, tokens / 2)
    allocated, reserved = peaks(device)
    middle = statistics.median(seconds)
    return Measured(tokens / middle, allocated, reserved, losses[-1], losses, (work.flops_half + work.flops_attention) / middle)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peaks(device: torch.device) -> tuple[int, int]:
    """Return the bytes in tensors and the bytes reserved at the peak; of a processor's process the resident peak, twice."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
    from app.training.memory import peak_bytes

    resident = peak_bytes(device)
    return resident, resident


def measure_peak(device: torch.device) -> float:
    """Return the operations per second of a large bfloat16 product: the median of ten."""
    size = PEAK_SIZE[device.type]
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(13):
        synchronise(device)
        started = time.perf_counter()
        a @ b
        synchronise(device)
        seconds.append(time.perf_counter() - started)
    return 2.0 * size**3 / statistics.median(seconds[3:])


def measure_all(names: list[str], device: str) -> dict[str, dict[Trainer, list[Measured]]]:
    """Run every trainer on every shape in turns; one that fails says so and is left out of the table."""
    found: dict[str, dict[Trainer, list[Measured]]] = {name: {trainer: [] for trainer in ROUNDS} for name in names}
    ends = time.monotonic() + ALL_SECONDS
    for number in range(max(ROUNDS.values())):  # all shapes once, before any of them twice
        for name in names:
            for trainer in (trainer for trainer, rounds in ROUNDS.items() if number < rounds):
                left = ends - time.monotonic()
                if left <= 0:
                    print(f"{name}, {trainer}: no time left for round {number + 1}", file=sys.stderr)
                    continue
                if measured := measure_aside(name, trainer, device, min(left, LIMIT_SECONDS)):
                    found[name][trainer].append(measured)
    return found


def measure_aside(name: str, trainer: Trainer, device: str, seconds: float) -> Measured | None:
    """Return what a process of its own measures; None, and a line on stderr, when it fails or takes too long."""
    command = [sys.executable, __file__, "--device", device, "--one", name, trainer]
    environment = {**trainer_environment(), "HF_HUB_OFFLINE": "1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds, env=environment)
    except subprocess.TimeoutExpired:
        print(f"{name}, {trainer}: not done after {seconds:.0f} s", file=sys.stderr)
        return None
    if done.returncode:
        print(f"{name}, {trainer}: {(done.stderr.strip().splitlines() or ['no word'])[-1]}", file=sys.stderr)
        return None
    for line in done.stderr.splitlines():
        if line.startswith("not recorded"):
            print(f"{name}, {trainer}: {line}", file=sys.stderr)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def write_table(found: dict[str, dict[Trainer, list[Measured]]], device: torch.device, peak: float) -> str:
    """Return the figures as Markdown."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "this processor (only shows that the benchmark works)"
    import transformers

    from app.training.liger import is_installed

    lines = [
        f"{name}; torch {torch.__version__}, transformers {transformers.__version__}, Liger's kernels "
        f"{'used' if is_installed() and device.type == 'cuda' else 'not used'}; bfloat16 products {peak / 1e12:.1f} TFLOP/s. "
        f"Peaks: in tensors (reserved by the allocator).",
        "",
        "| Shape | Tokens/s, ours | Without graphs | Tokens/s, plain | Ratio | MFU, ours | Peak, ours | Peak, plain "
        "| Loss, ours | Loss, plain |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for shape, by_trainer in found.items():
        if not (by_trainer["affinage"] and by_trainer["plain"]):
            lines.append(f"| {shape} | not measured: a trainer failed |" + " |" * 8)
            continue
        ours, plain = middle(by_trainer["affinage"]), middle(by_trainer["plain"])
        eager = f"{middle(by_trainer['eager']).tokens_per_second:,.0f}" if by_trainer["eager"] else ""
        lines.append(
            f"| {shape} | {ours.tokens_per_second:,.0f} | {eager} | {plain.tokens_per_second:,.0f} "
            f"| {ours.tokens_per_second / plain.tokens_per_second:.2f} | {100 * ours.flops_per_second / peak:.0f} % "
            f"| {write_bytes(ours)} | {write_bytes(plain)} | {ours.loss:.3f} | {plain.loss:.3f} |"
        )
    return "\n".join(lines)


def write_bytes(run: Measured) -> str:
    """Return both peaks in words."""
    return f"{run.allocated_bytes / 2**30:.2f} GiB ({run.reserved_bytes / 2**30:.2f})"


def middle(runs: list[Measured]) -> Measured:
    """Return the run of the median speed."""
    return sorted(runs, key=lambda run: run.tokens_per_second)[(len(runs) - 1) // 2]


def main() -> int:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--only", help="one shape")
    parser.add_argument("--one", nargs=2, metavar=("SHAPE", "TRAINER"), help="measure in this process and print JSON")
    parser.add_argument("--write", type=Path, help="also write the table into this Markdown file")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("No NVIDIA card is here: nothing was measured.", file=sys.stderr)
        return 1
    if arguments.one:
        print(json.dumps(asdict(measure_one(*arguments.one, device))))
        return 0
    names = [arguments.only] if arguments.only else [name for name in SHAPES if name != "tiny"]
    table = write_table(measure_all(names, arguments.device), device, measure_peak(device))
    print(table)
    if arguments.write:
        arguments.write.write_text(
            f"# Training on a card\n\n{table}\n\nMade by `make bench-gpu` (bench/training/gpu.py).\n", "utf-8"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
