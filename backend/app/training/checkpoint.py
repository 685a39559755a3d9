"""Checkpoints of a run: adapter, optimizer, random state, position. Safetensors and JSON only, never pickle.

checkpoints/checkpoint-<step>/
    adapter.safetensors     A and B by PEFT's names
    optimizer.safetensors   AdamW's moments and step counts, by the same names
    state.json              RunState
    manifest.json           SHA-256 of the three, written last

The folder is written aside, synchronised and renamed: one with its final name is complete. The order of the rows needs
no state of its own (see batching.py).
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from app.contracts.frozen import Frozen
from app.core.errors import CheckpointCorrupt, Invalid
from app.storage.job_dir import fsync_folder
from app.training.lora import adapter_tensors, load_tensors

KEPT = 2
_ADAPTER, _OPTIMIZER, _STATE, _MANIFEST = "adapter.safetensors", "optimizer.safetensors", "state.json", "manifest.json"
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


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
    heldout_seconds: float = 0.0
    """Seconds that the last evaluation took."""
    peak_bytes: int = 0
    peak_reserved_bytes: int | None = None


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was just written."""

    name: str
    size_bytes: int


def save_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: RunState) -> Saved:
    """Write `checkpoint-<step>` below `folder` and delete all but the newest KEPT. Raises OSError (disk full)."""
    name = f"checkpoint-{state.step}"
    final, aside = folder / name, folder / f".{name}.tmp"
    folder.mkdir(exist_ok=True)
    for leftover in (*folder.glob(".*.tmp"), final):
        shutil.rmtree(leftover, ignore_errors=True)
    aside.mkdir()
    parameters = adapter_tensors(model)
    save_file({key: value.detach().cpu() for key, value in parameters.items()}, aside / _ADAPTER)
    save_file(_optimizer_tensors(parameters, optimizer), aside / _OPTIMIZER)
    (aside / _STATE).write_text(state.model_dump_json(indent=2), "utf-8")
    hashes = {file.name: _sha256(file) for file in sorted(aside.iterdir())}
    (aside / _MANIFEST).write_text(json.dumps(hashes, indent=2), "utf-8")
    for file in aside.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    fsync_folder(aside)
    aside.rename(final)
    fsync_folder(folder)
    for old in list_checkpoints(folder)[KEPT:]:
        shutil.rmtree(old)
    return Saved(name, sum(file.stat().st_size for file in final.iterdir()))


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints, the newest first."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    return sorted(found, key=lambda path: -int(path.name.removeprefix("checkpoint-")))


def restore_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> RunState:
    """Put a checkpoint back into model, optimizer and random generators. Raises CheckpointCorrupt, changing nothing."""
    try:
        hashes: dict[str, str] = json.loads((path / _MANIFEST).read_text("utf-8"))
        if any(_sha256(path / name) != expected for name, expected in hashes.items()):
            raise CheckpointCorrupt(name=path.name)
        state = RunState.model_validate_json((path / _STATE).read_bytes())
        stored = load_file(path / _OPTIMIZER)
        load_tensors(model, path / _ADAPTER)
    except (OSError, ValueError, Invalid, SafetensorError) as error:
        raise CheckpointCorrupt(name=path.name) from error
    for key, parameter in adapter_tensors(model).items():
        # Step counts live on the device beside the moments: the fused kernel wants that.
        optimizer.state[parameter] = {name: stored[f"{name}:{key}"].to(parameter.device) for name in _MOMENTS}
    torch.set_rng_state(stored["rng:cpu"])
    if "rng:cuda" in stored:
        torch.cuda.set_rng_state(stored["rng:cuda"], next(model.parameters()).device)
    return state


def _optimizer_tensors(parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors = {
        f"{name}:{key}": optimizer.state[parameter][name].detach().cpu().clone()
        for key, parameter in parameters.items()
        for name in _MOMENTS
    }
    tensors["rng:cpu"] = torch.get_rng_state()
    device = next(iter(parameters.values())).device
    if device.type == "cuda":
        tensors["rng:cuda"] = torch.cuda.get_rng_state(device)
    return tensors


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
