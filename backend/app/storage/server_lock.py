"""`server.lock`: who supervises the jobs of a data folder. The lock dies with its process, so it is never stale.

With SQLite one process does, and a second one says so and ends. Over PostgreSQL several servers may share a folder: each
is alone while it tidies up, then they hold the lock together.
"""

import fcntl
import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from app.core.errors import Conflict


class AlreadyServed(Conflict):
    """Another process supervises the jobs of this data folder."""

    def __init__(self, data_dir: Path, owner: dict[str, str]) -> None:
        super().__init__("already_served", data_dir=data_dir, pid=owner.get("pid", "?"), address=owner.get("address", "?"))


SHARE_SECONDS = 60.0
"""How long a server waits for another one that tidies up."""


class ServerLock:
    """Held from `acquire` to `release`; `address` tells others where to find the owner."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / "server.lock"
        self._data_dir = data_dir
        self._descriptor: int | None = None

    def acquire(self, address: str) -> Self:
        """Take the lock and write who holds it. Raise AlreadyServed."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise AlreadyServed(self._data_dir, self.owner() or {}) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": str(os.getpid()), "address": address}).encode(), 0)
        self._descriptor = descriptor
        return self

    def join(self, address: str) -> bool:
        """Take the lock among others; return whether nobody else has it: then call `share` when all is tidy.

        Raise AlreadyServed where one keeps it to itself.
        """
        deadline = time.monotonic() + SHARE_SECONDS
        while True:
            try:
                self.acquire(address)
                return True
            except AlreadyServed:
                if self._try_shared():
                    return False
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def share(self) -> None:
        """Let other servers of the folder in."""
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def _try_shared(self) -> bool:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def owner(self) -> dict[str, str] | None:
        """Return what the last holder wrote (`pid`, `address`), or None. It may have ended since; see `held`."""
        try:
            loaded: dict[str, str] = json.loads(self.path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return loaded

    def held(self) -> bool:
        """Whether some process holds the lock now."""
        try:
            descriptor = os.open(self.path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def release(self) -> None:
        """Let the lock go; the file stays."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.release()
