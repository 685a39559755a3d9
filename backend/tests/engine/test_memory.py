"""Mapped weights that were copied elsewhere."""

import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from app.training.memory import release_mapped


def mapped_bytes() -> int:
    match = re.search(r"^RssFile:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"), re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024


def test_released_weights_leave_memory_and_keep_their_values(tmp_path: Path) -> None:
    size = 32 << 20
    save_file({"a": torch.ones(size // 4), "b": torch.full((size // 4,), 2.0)}, tmp_path / "model.safetensors")
    loaded = load_file(tmp_path / "model.safetensors")
    assert (loaded["a"].sum(), loaded["b"].sum()) == (size // 4, size // 2)
    before = mapped_bytes()
    release_mapped([loaded["a"]])
    assert before - mapped_bytes() > 0.9 * size
    assert (loaded["a"].sum(), loaded["b"].sum()) == (size // 4, size // 2)


def test_ordinary_memory_is_left_alone() -> None:
    tensor = torch.arange(1 << 20)
    release_mapped([tensor, torch.empty(4, device="meta")])
    assert torch.equal(tensor, torch.arange(1 << 20))
