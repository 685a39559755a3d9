"""The small random models and their micro-batches as pieces, through the engine's own functions."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from app.contracts.calibration import MeasuredStep, MeasuredWork
from app.contracts.hardware import DeviceKind
from app.contracts.job import Lora
from app.contracts.options import Dtype
from app.planner.shapes import find_linears, shape_from_config
from app.storage.job_dir import JobDir
from app.training.calibration.pieces import Piece
from app.training.calibration.random_weights import build_filled
from app.training.calibration.variants import MODELS, VARIANTS, Size, Variant, make_config
from app.training.gradient import Computer, Limits
from app.training.lanes import Lanes

RANK = 16


@dataclass(frozen=True)
class Model:
    """One model in one precision, with its adapter."""

    computer: Computer
    optimizer: torch.optim.Optimizer
    config: dict[str, Any]
    targets: list[str]

    def drop_gradients(self) -> None:
        """Forget what was accumulated."""
        for parameter in self.computer.parameters:
            parameter.grad = None


@dataclass(frozen=True)
class Bench:
    """One variant in one precision: its pieces, and the work that they were counted to do."""

    variant: Variant
    dtype: Dtype
    model: Model
    step: Piece
    work: MeasuredWork
    forward: Piece | None
    forward_work: MeasuredWork | None
    alone: Piece | None
    """The micro-batch with all threads to itself, where the engine computes several at the same time."""

    def describe(self, seconds: float, forward_seconds: float | None) -> MeasuredStep:
        """Return what is remembered of it, given its times."""
        return MeasuredStep(
            shape=shape_from_config(self.model.config),
            rank=RANK,
            target_modules=self.model.targets,
            dtype=self.dtype,
            micro_batch=self.variant.batch,
            length=self.variant.length,
            trained_share=self.variant.trained_share,
            checkpointing=self.variant.checkpointing,
            seconds=seconds,
            work=self.work,
            forward_seconds=forward_seconds,
            forward_work=self.forward_work,
        )


def build_benches(  # noqa: PLR0917
    size: Size, kind: DeviceKind, device: torch.device, dtypes: list[Dtype], job_dir: JobDir, lanes: Lanes
) -> list[Bench]:
    """Build every model once per precision, and count the work of each variant: its first, untimed pass."""
    built: dict[tuple[str, Dtype, bool], Model] = {}
    benches = []
    for dtype in dtypes:
        for variant in VARIANTS[size]:
            if not variant.full and dtype != dtypes[0]:
                continue
            key = (variant.model, dtype, variant.checkpointing)
            if key not in built:
                built[key] = _build(MODELS[size][variant.model], kind, device, dtype, variant.checkpointing, job_dir, lanes)
            benches.append(_prepare(variant, dtype, built[key], forward=variant.forward and dtype == dtypes[0]))
    return benches


def _build(  # noqa: PLR0917
    sizes: tuple[int, ...],
    kind: DeviceKind,
    device: torch.device,
    dtype: Dtype,
    checkpointing: bool,
    job_dir: JobDir,
    lanes: Lanes,
) -> Model:
    from app.training.assembly import assemble, build_unloaded

    config = make_config(sizes)
    model = build_filled(lambda: build_unloaded(config, device=device, kind=kind, dtype=dtype, checkpointing=checkpointing))
    written = config.to_dict()
    targets = list(find_linears(shape_from_config(written)))
    lora = Lora(rank=RANK, alpha=RANK, dropout=0.0, target_modules=targets, fan_in_fan_out=config.model_type == "gpt2")
    made = assemble(model, lora, kind=kind)
    limits = Limits(rows=1 << 20, tokens=None, lanes=lanes.count)
    computer = Computer(made.head, made.parameters, device, 0, 4096, limits, job_dir, lambda: None, lanes=lanes)
    return Model(computer, made.optimizer, written, targets)


def _prepare(variant: Variant, dtype: Dtype, model: Model, *, forward: bool) -> Bench:
    limits, lanes = model.computer.limits, model.computer.lanes.count
    rows = _make_rows(variant, model.config["vocab_size"], lanes)
    one = rows[: variant.batch]
    name = f"{dtype} {variant.model} {variant.batch}x{variant.length}{' recomputed' if variant.checkpointing else ''}"
    group = f"step {dtype}"

    def step_alone() -> None:
        limits.lanes = 1
        try:
            model.computer.accumulate_gradient(one)
        finally:
            limits.lanes = lanes

    def step_beside_others() -> None:
        model.computer.accumulate_gradient(rows)

    def forward_beside_others() -> None:
        model.computer.summed_loss(rows)

    def forward_alone() -> None:
        limits.lanes = 1
        try:
            model.computer.summed_loss(one)
        finally:
            limits.lanes = lanes

    step = Piece(f"step {name}", group, step_beside_others, repeated=True, tidy=model.drop_gradients)
    with _counted() as counted:
        step_alone()
    work = counted()
    model.drop_gradients()
    alone = None
    if variant.alone and lanes > 1:
        alone = Piece(f"alone {name}", group, step_alone, repeated=True, tidy=model.drop_gradients)
    if not forward:
        return Bench(variant, dtype, model, step, work, None, None, alone)
    without = Piece(f"forward {name}", group, forward_beside_others, repeated=True)
    with _counted() as counted:
        forward_alone()
    return Bench(variant, dtype, model, step, work, without, counted(), alone)


def _make_rows(variant: Variant, vocab: int, micro_batches: int) -> Any:
    from app.training.batching import Row

    draw = random.Random(0)  # noqa: S311  not a secret
    first = max(1, round(variant.length * (1 - variant.trained_share)))
    ids = [[draw.randrange(vocab) for _ in range(variant.length)] for _ in range(variant.batch * micro_batches)]
    return [Row(row, list(range(first, variant.length))) for row in ids]


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


def make_update(benches: list[Bench]) -> tuple[Piece, int]:
    """Return clipping and AdamW on the largest adapter as a piece, and the bytes of that adapter."""
    from app.training.assembly import finish_gradient, update

    model = max((bench.model for bench in benches), key=_count_parameters)
    parameters = model.computer.parameters

    def step() -> None:
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        finish_gradient(parameters, 1, 1.0)
        update(model.optimizer, 1e-9)

    return Piece("update", "update", step, repeated=True, tidy=model.drop_gradients), 4 * _count_parameters(model)


def _count_parameters(model: Model) -> int:
    return sum(parameter.numel() for parameter in model.computer.parameters)
