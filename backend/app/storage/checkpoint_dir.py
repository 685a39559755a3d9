"""The folders of checkpoints as files: which are complete, which are kept, which may go. Knows no torch.

checkpoints/checkpoint-<step>/
    adapter.safetensors     A and B by PEFT's names
    optimizer.safetensors   AdamW's moments and step counts, by the same names; random states
    state.json              RunState (training/checkpoint.py)
    manifest.json           SHA-256 of the three, written last
    keep-<reason>           an empty file: never removed by retention (`paused`, `exported`)

A folder with its final name was complete when it got that name; the manifest tells what happened to it since.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from app.contracts.frozen import Frozen
from app.core.errors import CheckpointCorrupt

ADAPTER, OPTIMIZER, STATE, MANIFEST = "adapter.safetensors", "optimizer.safetensors", "state.json", "manifest.json"
FILES = (ADAPTER, OPTIMIZER, STATE)
PREFIX = "checkpoint-"
Reason = Literal["paused", "exported"]


class HeldOut(Frozen):
    """The part of state.json that says how good a checkpoint is."""

    step: int
    heldout_step: int | None = None
    heldout_last: float | None = None


@dataclass(frozen=True)
class Keeping:
    """How many checkpoints stay, and how large they may be together."""

    count: int = 2
    bytes: int | None = None


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints, the newest first."""
    found = [path for path in folder.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdigit()]
    return sorted(found, key=lambda path: -step_of(path))


def step_of(path: Path) -> int:
    """Return the optimizer step after which a checkpoint was written."""
    return int(path.name.removeprefix(PREFIX))


def count_bytes(path: Path) -> int:
    """Return the size of a checkpoint's files."""
    return sum(file.stat().st_size for file in path.iterdir() if file.is_file())


def hash_file(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def verify(path: Path) -> None:
    """Compare each file with the manifest. Raise CheckpointCorrupt when one is missing, cut or changed."""
    try:
        hashes = json.loads((path / MANIFEST).read_bytes())
        if set(hashes) != set(FILES) or any(hash_file(path / name) != hashes[name] for name in FILES):
            raise CheckpointCorrupt(name=path.name)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointCorrupt(name=path.name) from error


def is_whole(path: Path) -> bool:
    """Return whether every file is there as it was written."""
    try:
        verify(path)
    except CheckpointCorrupt:
        return False
    return True


def keep(path: Path, reason: Reason) -> None:
    """Say that retention must not remove this checkpoint. Raise OSError."""
    (path / f"keep-{reason}").touch()


def list_reasons(path: Path) -> list[str]:
    """Return why a checkpoint is kept, by name."""
    return sorted(file.name.removeprefix("keep-") for file in path.glob("keep-*"))


def find_best(folder: Path) -> Path | None:
    """Return the checkpoint with the lowest loss on held-out rows, of those that were measured; the newest of equals."""
    measured: list[tuple[float, Path]] = []
    for path in list_checkpoints(folder):
        try:
            state = HeldOut.model_validate_json((path / STATE).read_bytes(), extra="ignore")
        except (OSError, ValidationError):
            continue
        if state.heldout_last is not None and state.heldout_step == state.step:
            measured.append((state.heldout_last, path))
    return min(measured, key=lambda pair: pair[0])[1] if measured else None


def prune(folder: Path, keeping: Keeping, *, needed_bytes: int = 0, whole: Path | None = None) -> list[str]:
    """Remove the oldest checkpoints that nothing protects; return their names.

    More than `keeping.count` are too many; so are those beyond `keeping.bytes`, and those that stand in the way of
    `needed_bytes` more on the disk. Never removed: the newest whole one (`whole`, where the caller knows it), the best, a
    paused-at and an exported one.
    """
    found = list_checkpoints(folder)
    best = find_best(folder)
    sizes = {path: count_bytes(path) for path in found}
    removed: list[str] = []
    left = len(found)
    for path in reversed(found):
        too_many = left > keeping.count
        too_large = keeping.bytes is not None and sum(sizes.values()) > keeping.bytes
        too_full = needed_bytes > 0 and shutil.disk_usage(folder).free < needed_bytes
        if not (too_many or too_large or too_full):
            break
        whole = whole or next((other for other in found if is_whole(other)), None)
        if path in (whole, best) or list_reasons(path):
            continue
        remove(path)
        del sizes[path]
        left -= 1
        removed.append(path.name)
    return removed


def remove(path: Path) -> None:
    """Delete a checkpoint: first it loses its name, so that nobody finds half of one."""
    aside = path.with_name(f".{path.name}.gone.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
    shutil.rmtree(aside)


def clear_leftovers(folder: Path) -> None:
    """Delete what a crash left of checkpoints that were being written or removed."""
    for leftover in folder.glob(".*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)
