"""One process per data folder supervises."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.storage.server_lock import AlreadyServed, ServerLock

HOLD = """
import sys
from pathlib import Path
from app.storage.server_lock import ServerLock
ServerLock(Path(sys.argv[1])).acquire("http://localhost:8000")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_is_held_by_one_and_dies_with_its_process(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    lock = ServerLock(tmp_path)
    assert lock.held()
    with pytest.raises(AlreadyServed, match=f"pid {holder.pid}, http://localhost:8000"):
        lock.acquire("here")
    holder.kill()
    holder.communicate()
    assert not lock.held()
    with lock.acquire("here"):
        assert ServerLock(tmp_path).held()
    assert not lock.held()


def test_a_folder_that_was_never_served_is_free(tmp_path: Path) -> None:
    assert not ServerLock(tmp_path).held()
    assert ServerLock(tmp_path).owner() is None
