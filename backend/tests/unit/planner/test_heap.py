"""The model of a trainer's heap against glibc itself."""

import ctypes
import json
import random
import subprocess
import sys

import pytest

from app.jobs.executors.environment import trainer_environment
from app.planner.trace.heap import Heap

KIB = 1 << 10
GLIBC = """
import ctypes, json, sys
class Sums(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
        "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Sums
libc.free.argtypes = [ctypes.c_void_p]
libc.posix_memalign.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
ids, sizes = json.load(sys.stdin)
before, used, held, peak = libc.mallinfo2(), {}, 0, 0
for block, size in zip(ids, sizes):
    if size > 0:
        place = ctypes.c_void_p()
        libc.posix_memalign(ctypes.byref(place), 64, size)
        used[block] = place
    else:
        libc.free(used.pop(block))
print(libc.mallinfo2().arena - before.arena)
"""


def draw_stream(seed: int) -> tuple[list[int], list[int]]:
    """Return blocks of a few sizes, taken in waves and freed in another order, as forward and backward passes do."""
    numbers = random.Random(seed)
    ids: list[int] = []
    sizes: list[int] = []
    number = 0
    for _ in range(6):
        scale = numbers.randint(4, 40)
        kept: list[tuple[int, int]] = []
        for _ in range(300):
            number += 1
            size = scale * 16 * KIB * numbers.choice((1, 2, 4, 8))
            ids.append(number)
            sizes.append(size)
            if numbers.random() < 0.5:
                kept.append((number, size))
            else:
                ids.append(number)
                sizes.append(-size)
        for block, size in reversed(kept):
            ids.append(block)
            sizes.append(-size)
    return ids, sizes


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="another C library than glibc 2.33 or newer")
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_heap_ends_where_glibcs_does_within_two_percent(seed: int) -> None:
    ids, sizes = draw_stream(seed)
    environment = trainer_environment()
    # Without huge pages: the heap then grows by what is asked for and not in steps.
    environment["GLIBC_TUNABLES"] = environment["GLIBC_TUNABLES"].replace("hugetlb=1", "hugetlb=0")
    done = subprocess.run(
        [sys.executable, "-c", GLIBC], input=json.dumps([ids, sizes]), env=environment, capture_output=True, text=True, check=True
    )
    heap = Heap()
    heap.replay(ids, sizes)
    assert heap.end_peak == pytest.approx(int(done.stdout), rel=0.02)


def test_everything_given_back_leaves_an_empty_heap() -> None:
    ids, sizes = draw_stream(4)
    heap = Heap()
    heap.replay(ids, sizes)
    assert heap.end == 0
    assert heap.end_peak > 0


def test_a_hole_between_blocks_in_use_is_taken_before_the_heap_grows() -> None:
    heap = Heap()
    for key, size in ((1, 1000), (2, 5000), (3, 1000)):
        heap.take(key, size)
    end = heap.end
    heap.give_back(2)
    heap.take(4, 4000)
    assert heap.end == end
    heap.take(5, 2000)
    assert heap.end > end
