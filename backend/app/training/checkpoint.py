"""Checkpoints of a run: adapter, optimizer, random state, position. Safetensors and JSON only, never pickle.

The folder (storage/checkpoint_dir.py) is written aside, synchronised and renamed: one with its final name is complete.
The order of the rows needs no state of its own (see batching.py).
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy.ctypeslib  # noqa: F401  safetensors asks for it when it first writes: an upgrade may have taken it away by then
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from app.contracts.frozen import Frozen
from app.core.errors import CheckpointCorrupt, DiskFull, Invalid
from app.core.units import format_bytes
from app.storage.checkpoint_dir import (
    ADAPTER,
    MANIFEST,
    OPTIMIZER,
    STATE,
    Keeping,
    Reason,
    clear_leftovers,
    count_bytes,
    hash_file,
    is_whole,
    keep,
    list_checkpoints,
    list_reasons,
    prune,
    remove,
    verify,
)
from app.storage.job_dir import fsync_folder
from app.training.lora import adapter_tensors, load_tensors

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")
"""What AdamW knows of each parameter; the optimizer in eight bits names its own."""
DISK_RESERVE_BYTES = 16 << 20
"""Left free beside a checkpoint, for the events of this run and the database. Judged, not measured."""


class RunState(Frozen):
    """Where a run stands after a complete optimizer step."""

    step: int = 0
    tokens: int = 0
    train_seconds: float = 0.0
    """Seconds spent in optimizer steps, over all attempts."""
    total_seconds: float = 0.0
    """Seconds from start to now, over all attempts."""
    micro_batch_size: int
    """Rows; lower than the job's after memory ran out."""
    token_budget: int | None
    lanes: int = 1
    """Micro-batches at the same time: rows are cut for so many."""
    loss_scale: float = 1.0
    steady_steps: int = 0
    """Steps since the loss scale last changed."""
    loss_first: float | None = None
    loss_last: float | None = None
    heldout_before: float | None = None
    heldout_last: float | None = None
    measures_before: dict[str, float] = {}
    measures_last: dict[str, float] = {}
    heldout_step: int | None = None
    """Step after which `heldout_last` was measured."""
    best_step: int | None = None
    """Step after which the loss on held-out rows was lowest, step 0 left out."""
    best_loss: float | None = None
    best_measures: dict[str, float] = {}
    worse_in_a_row: int = 0
    """Evaluations since then."""
    heldout_seconds: float = 0.0
    """Seconds that the last evaluation took."""
    peak_bytes: int = 0
    peak_reserved_bytes: int | None = None
    rows_hash: str = ""
    """SHA-256 of the training rows and of the held-out rows, one after the other; empty in versions that did not note it."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was just written."""

    name: str
    size_bytes: int


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: RunState,
    *,
    keeping: Keeping = Keeping(),  # noqa: B008  frozen
    reason: Reason | None = None,
    renew: bool = False,
) -> Saved:
    """Write `checkpoint-<step>` below `folder`, then remove those that need not stay.

    One of the same step that is whole stays as it is, unless it is to be renewed. With a `reason` it is never removed, and
    the last one with the same reason may be. Raises DiskFull before anything is written, with the disk as it was; OSError.
    """
    final, aside = folder / f"checkpoint-{state.step}", folder / f".checkpoint-{state.step}.tmp"
    folder.mkdir(exist_ok=True)
    clear_leftovers(folder)
    if renew or not is_whole(final):
        parameters = adapter_tensors(model)
        tensors = {ADAPTER: {key: value.detach().cpu() for key, value in parameters.items()}}
        tensors[OPTIMIZER] = _optimizer_tensors(parameters, optimizer)
        needed = sum(tensor.nbytes for part in tensors.values() for tensor in part.values()) + DISK_RESERVE_BYTES
        prune(folder, Keeping(count=keeping.count + 1), needed_bytes=needed)
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise DiskFull("checkpoint", needed=format_bytes(needed), free=format_bytes(free))
        aside.mkdir()
        for name, part in tensors.items():
            save_file(part, aside / name)
        (aside / STATE).write_text(state.model_dump_json(indent=2), "utf-8")
        hashes = {file.name: hash_file(file) for file in sorted(aside.iterdir())}
        (aside / MANIFEST).write_text(json.dumps(hashes, indent=2), "utf-8")
        for file in aside.iterdir():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        fsync_folder(aside)
        reasons = list_reasons(final)
        if final.exists():  # damaged since it was written, or written before its step was measured
            remove(final)
        aside.rename(final)
        for known in reasons:
            (final / f"keep-{known}").touch()
        fsync_folder(folder)
    if reason is not None:
        for older in list_checkpoints(folder):
            if reason in list_reasons(older) and reason == "paused":
                (older / f"keep-{reason}").unlink()
        keep(final, reason)
    prune(folder, keeping, whole=final)
    return Saved(final.name, count_bytes(final))


def restore_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> RunState:
    """Put a checkpoint back into model, optimizer and random generators. Raises CheckpointCorrupt, changing nothing."""
    verify(path)
    parameters = adapter_tensors(model)
    try:
        state = RunState.model_validate_json((path / STATE).read_bytes())
        stored = load_file(path / OPTIMIZER)
        names = _list_states(optimizer)
        missing = {f"{name}:{key}" for key in parameters for name in names} | {"rng:cpu"}
        if missing - stored.keys():
            raise CheckpointCorrupt(name=path.name)
        load_tensors(model, path / ADAPTER)
    except (OSError, ValueError, Invalid, SafetensorError) as error:
        raise CheckpointCorrupt(name=path.name) from error
    for key, parameter in parameters.items():
        # Step counts live on the device beside the moments: the fused kernel wants that.
        optimizer.state[parameter] = {name: stored[f"{name}:{key}"].to(parameter.device) for name in names}
    torch.set_rng_state(stored["rng:cpu"])
    if "rng:cuda" in stored:
        torch.cuda.set_rng_state(stored["rng:cuda"], next(model.parameters()).device)
    return state


def _list_states(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    names: tuple[str, ...] = getattr(optimizer, "state_names", _MOMENTS)
    return names


def _optimizer_tensors(parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors = {
        f"{name}:{key}": optimizer.state[parameter][name].detach().cpu().clone()
        for key, parameter in parameters.items()
        for name in _list_states(optimizer)
    }
    tensors["rng:cpu"] = torch.get_rng_state()
    device = next(iter(parameters.values())).device
    if device.type == "cuda":
        tensors["rng:cuda"] = torch.cuda.get_rng_state(device)
    return tensors
