"""Measure how fast a device trains: `python -m app.training.calibration [--device cpu] [--seconds 12]`.

Prints one `Calibration` (contracts/calibration.py) as one line of JSON on stdout; failures go to stderr, exit code 1.
Beside raw speeds (products, a copy, a launch) it times real micro-batches of small random models through the engine's own
functions: one or two blocks of real widths, so that a whole step of a large model is never needed. All variants take
turns, round after round in a new order, and the median counts: what else the machine does in between falls on all of them.
The processor is measured in 32 bits, and in 16 where it computes them natively; a card too.
"""

import argparse
import logging
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

from app.contracts.calibration import SCHEMA, Calibration, MeasuredStep, MeasuredWork, find_torch_version
from app.contracts.hardware import Device, DeviceKind
from app.contracts.job import Lora
from app.contracts.options import Dtype
from app.core.errors import NotFound
from app.hardware.probe import probe
from app.planner.calibrated import complete
from app.planner.gpus import rate_device
from app.planner.shapes import find_linears, shape_from_config
from app.storage.job_dir import JobDir, utc_now

SECONDS = 16.0
"""How long the whole measurement may take, where the device allows: at least LEAST_ROUNDS are done."""
LEAST_ROUNDS = 2
MOST_ROUNDS = 8
RANK = 16
TRAINED_SHARE = 0.5

log = logging.getLogger("app.training.calibration")


Size = Literal["small", "large"]
"""Which set of models is timed: `large` keeps a card busy and takes 5 GB of it, `small` is for the rest."""
LARGE_BYTES = 8 << 30
"""Free memory of a card from which on the large set is used."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One micro-batch to time: a model of MODELS, its rows."""

    model: str
    batch: int
    length: int
    checkpointing: bool = False
    trained_share: float = TRAINED_SHARE
    full: bool = True
    """Whether it is also timed in 32 bits where the device is quicker in 16."""
    forward: bool = False
    """Whether the pass without gradients is timed as well."""


# Llama: hidden, intermediate, heads, kv heads, head size; GPT-2: hidden, heads. Then layers and vocabulary.
# `older`: the blocks of GPT-2. `small`: the embedded model's width. `wide`: large products. `words`: mostly output head.
MODELS: dict[Size, dict[str, tuple[int, ...]]] = {
    "small": {
        "older": (768, 12, 2, 1024),
        "small": (576, 1536, 9, 3, 64, 2, 2048),
        "wide": (1536, 4096, 24, 4, 64, 1, 2048),
        "words": (576, 1536, 9, 3, 64, 1, 32768),
    },
    "large": {
        "older": (1024, 16, 6, 2048),
        "small": (1024, 4096, 16, 8, 64, 4, 2048),
        "wide": (4096, 11008, 32, 8, 128, 2, 2048),
        "words": (2048, 5632, 32, 4, 64, 1, 65536),
    },
}
VARIANTS: dict[Size, tuple[Variant, ...]] = {
    "small": (
        Variant("older", 1, 64, full=False),
        Variant("older", 2, 128, forward=True),
        Variant("older", 1, 384, full=False),
        Variant("small", 1, 64, full=False),
        Variant("small", 4, 64, forward=True),
        Variant("small", 1, 512),
        Variant("small", 1, 640),
        Variant("small", 2, 96, checkpointing=True, full=False),
        Variant("wide", 1, 64, full=False),
        Variant("wide", 2, 96, forward=True),
        Variant("words", 1, 96, trained_share=1.0, full=False),
    ),
    "large": (
        Variant("older", 1, 128),
        Variant("older", 8, 512, forward=True),
        Variant("small", 1, 256, full=False),
        Variant("small", 8, 512, forward=True),
        Variant("small", 2, 2048),
        Variant("small", 4, 512, checkpointing=True),
        Variant("wide", 1, 512, forward=True),
        Variant("wide", 4, 512, full=False),
        Variant("wide", 2, 1024, checkpointing=True, full=False),
        Variant("words", 4, 512, trained_share=1.0),
    ),
}


@dataclass
class _Bench:
    """One variant in one precision, built, with its times so far."""

    variant: Variant
    dtype: Dtype
    computer: Any
    optimizer: Any
    config: dict[str, Any]
    targets: list[str]
    seconds: list[float] = field(default_factory=list)
    forward_seconds: list[float] = field(default_factory=list)
    work: MeasuredWork | None = None
    forward_work: MeasuredWork | None = None


def make_config(sizes: tuple[int, ...]) -> Any:
    """Return the transformers configuration of an entry of MODELS."""
    from transformers import GPT2Config, LlamaConfig

    if len(sizes) == 4:
        hidden, heads, layers, vocab = sizes
        return GPT2Config(
            n_embd=hidden, n_head=heads, n_layer=layers, vocab_size=vocab, n_positions=2048, bos_token_id=0, eos_token_id=0,
            use_cache=False,
        )  # fmt: skip
    hidden, inner, heads, kv_heads, head_dim, layers, vocab = sizes
    return LlamaConfig(
        hidden_size=hidden, intermediate_size=inner, num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=head_dim,
        num_hidden_layers=layers, vocab_size=vocab, max_position_embeddings=4096, tie_word_embeddings=True, bos_token_id=0,
        eos_token_id=0, use_cache=False,
    )  # fmt: skip


def measure(device_id: str, seconds: float = SECONDS) -> Calibration:
    """Measure the device. Raise NotFound for one that this machine does not have."""
    device = _find_device(device_id)
    import torch

    from app.training import engine  # noqa: F401  what a job imports before it can begin
    from app.training.loading import find_device, use_physical_cores
    from app.training.measuring import measure_bandwidth, measure_launch, measure_products

    start_seconds = time.time() - psutil.Process().create_time()
    threads = use_physical_cores()
    torch.manual_seed(0)
    place = find_device(device_id)
    context = _measure_context(place)
    size: Size = "large" if device.kind == "cuda" and device.memory_free_bytes >= LARGE_BYTES else "small"
    half = choose_half(device)
    dtypes: list[Dtype] = [half, "float32"] if half else ["float32"]
    products = [rate for dtype in dtypes for rate in measure_products(place, device.kind, dtype)]
    bandwidth, launch = measure_bandwidth(place, device.kind), measure_launch(place)
    with tempfile.TemporaryDirectory(prefix="affinage-calibration-") as folder:
        benches = _build(size, device.kind, place, dtypes, JobDir(Path(folder) / "job"))
        load_rate, load_fixed, save_seconds = _measure_files(Path(folder), size, place, half or "float32")
        optimizer_rate = _measure_optimizer(benches, place)
        log.info("built and prepared after %.1f s", time.time() - psutil.Process().create_time())
        spent = time.time() - psutil.Process().create_time()
        ratios = _take_turns(benches, place, until=time.perf_counter() + max(0.0, seconds - spent))
    rates = {dtype: statistics.median(rate.gflops for rate in products if rate.dtype == dtype) for dtype in dtypes}
    measured = Calibration(
        schema_version=SCHEMA,
        device_kind=device.kind,
        device_id=device.id,
        device_name=device.name,
        driver_version=probe(Path.cwd()).driver_version if device.kind == "cuda" else None,
        torch_version=find_torch_version(),
        threads=threads,
        measured_at=utc_now(),
        seconds=time.time() - psutil.Process().create_time(),
        half_gflops=rates[half] if half else None,
        full_gflops=rates["float32"],
        bandwidth_gb=bandwidth,
        launch_seconds=launch,
        products=products,
        steps=[_describe(bench) for bench in benches],
        start_seconds=start_seconds,
        load_bytes_per_second=load_rate,
        load_fixed_seconds=load_fixed,
        save_seconds=save_seconds,
        optimizer_bytes_per_second=optimizer_rate,
        context_bytes=context,
        noise=statistics.quantiles(ratios, n=10)[-1],
    )
    return complete(measured, rate_device(device))


def choose_half(device: Device) -> Dtype | None:
    """Return the 16-bit type that the planner would choose on this device, None where it would stay with 32 bits."""
    if device.bf16:
        return "bfloat16"
    if device.kind == "cuda" and (device.compute_capability or (0, 0)) >= (7, 0):
        return "float16"
    return None


def _find_device(device_id: str) -> Device:
    devices = probe(Path.cwd()).devices
    for device in devices:
        if device.id == device_id:
            return device
    raise NotFound("device", device_id=device_id, available=", ".join(device.id for device in devices))


def _measure_context(place: Any) -> int | None:
    """Return the bytes that a card loses to the CUDA context and its libraries; None for the processor."""
    if place.type != "cuda":
        return None
    import torch

    x = torch.ones(256, 256, device=place)
    (x @ x).sum().item()
    free, total = torch.cuda.mem_get_info(place)
    # Others may hold memory of the same card: what this process holds is asked from the driver where it tells.
    own = _find_own_bytes(place)
    used = total - free if own is None else own
    return max(0, used - torch.cuda.memory_reserved(place))


def _find_own_bytes(place: Any) -> int | None:
    """Return the bytes of the card that the driver counts for this process; None where it does not say (containers)."""
    import pynvml
    import torch

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(place).uuid}")
        for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
            if process.pid == os.getpid() and process.usedGpuMemory:
                return int(process.usedGpuMemory)
    except (pynvml.NVMLError, AttributeError):
        return None
    return None


def _build(size: Size, kind: DeviceKind, place: Any, dtypes: list[Dtype], job_dir: JobDir) -> list[_Bench]:
    """Build every model once per precision; variants that differ in rows only share it."""
    from transformers.initialization import no_init_weights

    from app.training.assembly import assemble, build_unloaded
    from app.training.gradient import Computer, Limits

    built: dict[tuple[str, Dtype, bool], tuple[Any, Any, dict[str, Any], list[str]]] = {}
    benches = []
    for dtype in dtypes:
        for variant in VARIANTS[size]:
            if not variant.full and dtype != dtypes[0]:
                continue
            key = (variant.model, dtype, variant.checkpointing)
            if key not in built:
                config = make_config(MODELS[size][variant.model])
                with no_init_weights():
                    model = build_unloaded(config, device=place, kind=kind, dtype=dtype, checkpointing=variant.checkpointing)
                _fill(model)
                written = config.to_dict()
                targets = list(find_linears(shape_from_config(written)))
                lora = Lora(
                    rank=RANK, alpha=RANK, dropout=0.0, target_modules=targets, fan_in_fan_out=config.model_type == "gpt2"
                )
                made = assemble(model, lora, kind=kind)
                computer = Computer(
                    made.head, made.parameters, place, 0, 4096, Limits(rows=1 << 20, tokens=None), job_dir, lambda: None
                )
                built[key] = (computer, made.optimizer, written, targets)
            benches.append(_Bench(variant, dtype, *built[key]))
    return benches


def _fill(model: Any) -> None:
    """Give uninitialised weights small numbers: speed must not depend on what memory held before (NaN, denormals)."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0) if parameter.dim() == 1 else parameter.uniform_(-0.02, 0.02)


def _make_rows(bench: _Bench) -> Any:
    from app.training.batching import Row

    variant = bench.variant
    draw = random.Random(0)  # noqa: S311  not a secret
    vocab = bench.config["vocab_size"]
    first = max(1, round(variant.length * (1 - variant.trained_share)))
    ids = [[draw.randrange(vocab) for _ in range(variant.length)] for _ in range(variant.batch)]
    return [Row(row, list(range(first, variant.length))) for row in ids]


def _take_turns(benches: list[_Bench], place: Any, *, until: float) -> list[float]:
    """Time all variants round by round until the time is up; return how single times compare with their median.

    The first round warms up and counts the work; it is not timed.
    """
    from app.training.measuring import synchronise

    draw = random.Random(1)  # noqa: S311
    order = list(benches)
    rows = {id(bench): _make_rows(bench) for bench in benches}
    for bench in order:
        with _counted() as counted:
            bench.computer.accumulate_gradient(rows[id(bench)])
        bench.work = counted()
        _drop_gradients(bench)
        if bench.variant.forward:
            with _counted() as counted:
                bench.computer.summed_loss(rows[id(bench)])
            bench.forward_work = counted()
    log.info("warmed up after %.1f s", time.time() - psutil.Process().create_time())
    for number in range(MOST_ROUNDS):
        if number >= LEAST_ROUNDS and time.perf_counter() > until:
            break
        draw.shuffle(order)
        for bench in order:
            # A job repeats one step: the first of a turn only puts caches and the heap into that state. Not when late.
            for timed in (False, True) if time.perf_counter() < until else (True,):
                synchronise(place)
                started = time.perf_counter()
                bench.computer.accumulate_gradient(rows[id(bench)])
                synchronise(place)
                if timed:
                    bench.seconds.append(time.perf_counter() - started)
                _drop_gradients(bench)
            if bench.variant.forward:
                started = time.perf_counter()
                bench.computer.summed_loss(rows[id(bench)])
                synchronise(place)
                bench.forward_seconds.append(time.perf_counter() - started)
    return [seconds / statistics.median(bench.seconds) for bench in benches for seconds in bench.seconds]


def _drop_gradients(bench: _Bench) -> None:
    for parameter in bench.computer.parameters:
        parameter.grad = None


@contextmanager
def _counted() -> Iterator[Any]:
    """Count the work of what runs inside; call what is yielded afterwards to get it."""
    from torch.utils._python_dispatch import TorchDispatchMode

    from app.planner.trace.costs import Costs, count_costs

    costs = Costs()

    class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            count_costs(costs, func, args, out)
            return out

    with Counter():  # type: ignore[no-untyped-call]
        yield lambda: MeasuredWork(**{name: getattr(costs, name) for name in MeasuredWork.model_fields})


def _describe(bench: _Bench) -> MeasuredStep:
    assert bench.work is not None
    return MeasuredStep(
        shape=shape_from_config(bench.config),
        rank=RANK,
        target_modules=bench.targets,
        dtype=bench.dtype,
        micro_batch=bench.variant.batch,
        length=bench.variant.length,
        trained_share=bench.variant.trained_share,
        checkpointing=bench.variant.checkpointing,
        seconds=statistics.median(bench.seconds),
        work=bench.work,
        forward_seconds=statistics.median(bench.forward_seconds) if bench.forward_seconds else None,
        forward_work=bench.forward_work,
    )


def _measure_files(folder: Path, size: Size, place: Any, dtype: Dtype) -> tuple[float, float, float]:
    """Return the bytes per second of loading a model, its fixed seconds, and the seconds of saving an adapter."""
    import torch
    from transformers import AutoModelForCausalLM

    from app.training import selftest
    from app.training.loading import load_model
    from app.training.lora import attach, save_adapter

    seconds, sizes = [], []
    # The second and larger one is read without what the first had to import.
    for name in ("older", "words"):
        model = AutoModelForCausalLM.from_config(make_config(MODELS[size][name])).to(getattr(torch, dtype))
        target = folder / name
        model.save_pretrained(target)
        sizes.append(sum(parameter.numel() * parameter.element_size() for parameter in model.parameters()))
        job = selftest.write_job(folder / f"job-{name}", target, str(place)).read_job().model_copy(update={"dtype": dtype})
        started = time.perf_counter()
        loaded = load_model(job, place)
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        seconds.append(time.perf_counter() - started)
    attach(loaded, job.lora)
    started = time.perf_counter()
    save_adapter(loaded, folder / "adapter", base_model_id="calibration", lora=job.lora)
    saving = time.perf_counter() - started
    return sizes[1] / seconds[1], seconds[0], saving


def _measure_optimizer(benches: list[_Bench], place: Any) -> float:
    """Return the bytes of adapter parameters that clipping and AdamW go through per second."""
    import torch

    from app.training.assembly import finish_gradient, update
    from app.training.measuring import time_rounds

    bench = max(benches, key=lambda bench: sum(parameter.numel() for parameter in bench.computer.parameters))
    parameters = bench.computer.parameters

    def step() -> None:
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        finish_gradient(parameters, 1, 1.0)
        update(bench.optimizer, 1e-9)

    seconds = time_rounds(place, step, rounds=3)
    size = sum(parameter.numel() * 4 for parameter in parameters)
    return float(size / seconds)


def main(argv: list[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m app.training.calibration", description="Measure how fast a device trains.")
    parser.add_argument("--device", default="cpu", help="cpu, cuda:0, ...")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long it may take (default %(default)s)")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    # As for a job (see app/training/__main__.py): other threads' spinning would be measured as well.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        found = measure(arguments.device, arguments.seconds)
    except Exception:
        log.exception("the measurement failed")
        return 1
    sys.stdout.write(found.model_dump_json() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
