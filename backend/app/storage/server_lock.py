"""`server.lock`: one process per data folder supervises jobs. The lock dies with its process, so it is never stale."""

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from app.core.errors import Conflict


class AlreadyServed(Conflict):
    """Another process supervises the jobs of this data folder."""

    def __init__(self, data_dir: Path, owner: dict[str, str]) -> None:
        super().__init__("already_served", data_dir=data_dir, pid=owner.get("pid", "?"), address=owner.get("address", "?"))


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
