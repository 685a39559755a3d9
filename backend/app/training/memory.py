"""Peak memory, and what running out of it looks like."""

import ctypes
import gc
import re
from contextlib import suppress
from pathlib import Path

import torch

_HOST_MESSAGES = ("can't allocate memory", "not enough memory", "bad_alloc", "cannot allocate memory")


def peak_bytes(device: torch.device) -> int:
    """Return the peak so far: memory allocated on the GPU, or resident memory of this process (Linux `VmHWM`)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    match = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` says that memory ran out, on the GPU or on the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _HOST_MESSAGES)


def release() -> None:
    """Give back what a failed attempt held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim_heap()


def trim_heap() -> None:
    """Give the holes in the heap back to the system (glibc keeps them: rows of mixed lengths leave ever more)."""
    with suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
