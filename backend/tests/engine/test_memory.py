"""Mapped weights that were copied elsewhere, and how it sounds when memory runs out."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.training.memory import is_out_of_memory, release_mapped


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


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_only_what_says_that_memory_ran_out_is_taken_for_it(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
