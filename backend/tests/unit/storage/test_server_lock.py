"""Who may supervise a data folder: one process over SQLite, several over PostgreSQL."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.core.settings import Settings
from app.storage.folder_identity import read_folder_id
from app.storage.server_lock import AlreadyServed, ServerLock

HOLD = """
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from app.core.settings import Settings
from app.storage.folder_identity import read_folder_id
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


def test_a_server_alone_tidies_up_and_then_lets_the_others_in(tmp_path: Path) -> None:
    first, second = ServerLock(tmp_path), ServerLock(tmp_path)
    assert first.join("http://a")
    joined = ThreadPoolExecutor(1).submit(second.join, "http://b")
    time.sleep(0.2)
    assert not joined.done()
    first.share()
    assert joined.result(timeout=30) is False
    with pytest.raises(AlreadyServed):
        ServerLock(tmp_path).acquire("http://alone")
    first.release()
    second.release()
    assert ServerLock(tmp_path).join("http://c")


def test_two_names_for_one_folder_do_not_exist(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as processes:
        assert len(set(processes.map(lambda _: read_folder_id(tmp_path), range(32)))) == 1
    assert list(tmp_path.iterdir()) == [tmp_path / ".folder-id"]


def test_only_sqlite_keeps_a_folder_to_one_server(tmp_path: Path) -> None:
    assert not Settings(data_dir=tmp_path, database_url="sqlite:////elsewhere.db").shares_database
    assert Settings(data_dir=tmp_path, database_url="postgresql+psycopg://db/affinage").shares_database
