"""The environment of a trainer, as a child process really finds it."""

import ctypes
import os
import subprocess
import sys

import pytest

from app.jobs.executors.environment import trainer_environment

PROBE = """
import ctypes
class Heap(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
        "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Heap
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
before = libc.mallinfo2()
block = libc.malloc(256 << 20)
within = libc.mallinfo2()
libc.free(block)
after = libc.mallinfo2()
print(within.hblkhd - before.hblkhd, within.arena - before.arena >> 20, after.arena - before.arena >> 20)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="another C library than glibc 2.33 or newer")
def test_large_blocks_come_from_the_heap_and_the_heap_is_kept() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], env=trainer_environment(), capture_output=True, text=True, check=True)
    mapped, grown, kept = map(int, done.stdout.split())
    assert mapped == 0
    assert grown >= 250
    assert kept >= 250


def test_everything_else_of_the_environment_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "/somewhere")
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=3")
    environment = trainer_environment()
    assert environment["HF_HOME"] == "/somewhere"
    assert environment.keys() >= os.environ.keys()
    assert environment["GLIBC_TUNABLES"].startswith("glibc.malloc.hugetlb=1:")
