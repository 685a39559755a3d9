"""Peak memory, and what running out of it looks like."""

import ctypes
import gc
import mmap
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

_HOST_MESSAGES = ("can't allocate memory", "not enough memory", "bad_alloc", "cannot allocate memory")
_CARD_MESSAGES = ("cuda error: out of memory", "cuda driver error: out of memory", "cublas_status_alloc_failed")
"""What the driver and cuBLAS say beside PyTorch's allocator, which has an error of its own."""


def peak_bytes(device: torch.device) -> int:
    """Return the peak so far: memory allocated on the GPU, or resident memory of this process (Linux `VmHWM`)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    match = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def reserved_peak_bytes(device: torch.device) -> int | None:
    """Return the peak that the allocator held on the GPU, its holes counted; None on the processor."""
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else None


def reset_peak(device: torch.device) -> None:
    """Let the GPU's peaks start again from what is held now; the processor's cannot be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` says that memory ran out, on the GPU or on the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in (*_HOST_MESSAGES, *_CARD_MESSAGES))


def release() -> None:
    """Give back what a failed attempt held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim_heap()


def trim_heap() -> None:
    """Give the holes in the heap back to the system; glibc keeps them."""
    with suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def release_mapped(tensors: Sequence[torch.Tensor]) -> None:
    """Give back the pages of weights in a mapped safetensors file that were copied elsewhere.

    Nothing is lost: who reads such a page again gets it from the file. Tensors in ordinary memory are left alone.
    """
    try:
        lines = Path("/proc/self/maps").read_text("utf-8", "replace").splitlines()
    except OSError:  # not Linux
        return
    mapped = [
        tuple(int(end, 16) for end in line.split(maxsplit=1)[0].split("-"))
        for line in lines
        if line.endswith(".safetensors") and line.split(maxsplit=2)[1].endswith("p")
    ]
    advise = ctypes.CDLL(None).madvise
    for tensor in tensors:
        first = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        last = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if first < last and any(low <= first and last <= high for low, high in mapped):
            advise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)


def settle(parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Make the gradients and AdamW's states now, as zeros, where they are missing.

    They outlive every micro-batch. Made where the first one left room, they would lie between its tensors and cut that
    room into pieces for all that follow; made before it, they lie below.
    """
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if not optimizer.state[parameter]:
            optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
