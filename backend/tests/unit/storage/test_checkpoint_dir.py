"""Which checkpoints are whole, and which may go."""

import json
from collections import namedtuple
from pathlib import Path

import pytest

from app.core.errors import CheckpointCorrupt
from app.storage import checkpoint_dir
from app.storage.checkpoint_dir import FILES, MANIFEST, Keeping, find_best, hash_file, keep, list_checkpoints, prune, verify

Usage = namedtuple("Usage", "total used free")


def write(folder: Path, step: int, *, heldout: float | None = None, size_bytes: int = 1000) -> Path:
    """Write a checkpoint of random-looking files with a true manifest."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    state = {"step": step, "heldout_step": step if heldout is not None else None, "heldout_last": heldout, "tokens": 5}
    for name in FILES:
        (path / name).write_bytes(json.dumps(state).encode() if name == "state.json" else bytes([step % 256]) * size_bytes)
    (path / MANIFEST).write_text(json.dumps({name: hash_file(path / name) for name in FILES}))
    return path


def names(folder: Path) -> list[str]:
    return [path.name for path in list_checkpoints(folder)]


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@pytest.mark.parametrize("damage", ["missing", "cut", "changed"])
def test_a_file_that_is_missing_cut_or_changed_makes_a_checkpoint_unusable(tmp_path: Path, name: str, damage: str) -> None:
    path = write(tmp_path, 3)
    verify(path)
    file = path / name
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(content[:-2])
    else:
        file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(CheckpointCorrupt, match="checkpoint-3"):
        verify(path)


def test_a_manifest_that_names_no_files_proves_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, 3)
    (path / MANIFEST).write_text("{}")
    with pytest.raises(CheckpointCorrupt):
        verify(path)


def test_the_newest_stay_and_the_best_the_paused_at_and_the_exported_one_too(tmp_path: Path) -> None:
    for step, heldout in ((1, None), (2, 1.5), (3, 0.5), (4, None), (5, 0.9), (6, None), (7, None)):
        write(tmp_path, step, heldout=heldout)
    keep(tmp_path / "checkpoint-1", "exported")
    keep(tmp_path / "checkpoint-4", "paused")
    assert find_best(tmp_path) == tmp_path / "checkpoint-3"
    assert prune(tmp_path, Keeping(count=2)) == ["checkpoint-2", "checkpoint-5", "checkpoint-6"]
    assert names(tmp_path) == ["checkpoint-7", "checkpoint-4", "checkpoint-3", "checkpoint-1"]


def test_the_last_whole_one_stays_although_damaged_ones_are_newer(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        write(tmp_path, step)
    for step in (2, 3):
        (tmp_path / f"checkpoint-{step}" / "optimizer.safetensors").unlink()
    prune(tmp_path, Keeping(count=1))
    assert "checkpoint-1" in names(tmp_path)


def test_checkpoints_that_are_too_large_together_go_oldest_first_but_never_the_last(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        write(tmp_path, step, size_bytes=10_000)
    prune(tmp_path, Keeping(count=10, bytes=50_000))
    assert names(tmp_path) == ["checkpoint-4", "checkpoint-3"]
    prune(tmp_path, Keeping(count=10, bytes=1))
    assert names(tmp_path) == ["checkpoint-4"]


def test_a_disk_without_room_for_the_next_one_loses_the_old_ones_but_not_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2, 3):
        write(tmp_path, step)
    monkeypatch.setattr(checkpoint_dir.shutil, "disk_usage", lambda _: Usage(10, 5, 5))
    assert prune(tmp_path, Keeping(count=5), needed_bytes=6) == ["checkpoint-1", "checkpoint-2"]
    assert prune(tmp_path, Keeping(count=5), needed_bytes=4) == []
    assert names(tmp_path) == ["checkpoint-3"]
