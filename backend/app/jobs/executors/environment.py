"""The environment of a trainer: how its C library hands memory out, so that its peak can be predicted and pages stay."""

import os

from app.planner.prepared import KEPT_PRODUCTS

_NEVER = 1 << 40
_TUNABLES = {
    "hugetlb": 1,
    "mmap_threshold": _NEVER,
    "trim_threshold": _NEVER,
    "tcache_count": 0,
    "arena_max": 1,
}
"""glibc (https://sourceware.org/glibc/manual, "Memory Allocation Tunables"). Measured on two cores, kernel 6.18:
- hugetlb: the kernel is asked for huge pages. Memory is first touched at 5.7 instead of 2.0 GB/s; training on a processor
  is 3 to 4 times faster.
- mmap_threshold, trim_threshold: large blocks come from the heap and the heap is not given back between micro-batches:
  each page is taken once, and one best-fit heap is a thing that a planner can replay (planner/trace/heap.py).
- tcache_count: freed small blocks are joined with their neighbours at once. Kept apart, they cut the room between
  micro-batches into pieces that the next tensors do not fit (76-million Llama, 48 rows: peak 1,267 -> 1,110 MiB).
- arena_max: the threads of a step share one heap instead of having one each (embedded model, 8 rows a step on two threads:
  peak 1.9 to 2.3 -> 1.7 GB, and hardly different from run to run)."""

CARD_ALLOCATOR = "expandable_segments:True"
"""PyTorch's allocator on a card grows a segment instead of taking another one, so that rows of mixed lengths leave no
holes: replayed without it, steps of 384 and 512 tokens take up to 1.4 times their live tensors. Not measured by us."""


def card_allocator_expands() -> bool:
    """Return whether the segments of a trainer's allocator on a card expand: unless the user's own settings say otherwise."""
    return CARD_ALLOCATOR in os.environ.get("PYTORCH_ALLOC_CONF", CARD_ALLOCATOR)


def trainer_environment() -> dict[str, str]:
    """Return this process's environment with what a trainer needs, for `subprocess.Popen`."""
    tunables = ":".join(f"glibc.malloc.{name}={value}" for name, value in _TUNABLES.items())
    return {
        **os.environ,
        "GLIBC_TUNABLES": tunables,
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": str(KEPT_PRODUCTS),
        "PYTORCH_ALLOC_CONF": os.environ.get("PYTORCH_ALLOC_CONF", CARD_ALLOCATOR),
        "PYTHONUNBUFFERED": "1",
        # PCI order is the numbering of NVML, by which the device was chosen.
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }
