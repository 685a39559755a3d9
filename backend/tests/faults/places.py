"""What the faults need of the machine: a small disk that can be filled, and a wall clock that can be set."""

import os
import shutil
import struct
import subprocess
import time
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")
DISK_BYTES = 256 << 20


class SmallDisk:
    """A file system in memory, mounted on a folder. Only root may mount; `find` returns None elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    @classmethod
    def find(cls, folder: Path) -> "SmallDisk | None":
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "affinage-faults", str(folder)]
        try:
            done = subprocess.run(mount, capture_output=True, check=False)
        except FileNotFoundError:
            return None
        return cls(folder) if done.returncode == 0 else None

    def fill(self, seconds: float) -> None:
        """Leave no byte free for a while."""
        with self._ballast.open("wb", buffering=0) as file:
            size = 1 << 20
            while size:
                try:
                    if file.write(bytes(size)) < size:
                        size //= 2
                except OSError:
                    size //= 2
        time.sleep(seconds)
        self._ballast.unlink()

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


class Clock:
    """Shifts the wall clock of every process that is started with its `environment`."""

    def __init__(self, folder: Path, library: Path) -> None:
        self._file = folder / "clock-offset"
        self.jump(0)
        self.environment = {"LD_PRELOAD": str(library), "AFFINAGE_TEST_CLOCK": str(self._file)}

    @classmethod
    def find(cls, folder: Path) -> "Clock | None":
        """Compile the library; None without a C compiler."""
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            return None
        library = folder / "clock.so"
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", str(SOURCE), "-o", str(library)], check=True)
        return cls(folder, library)

    def jump(self, seconds: int) -> None:
        """Set the clock so far from the true time."""
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
        os.pwrite(descriptor, struct.pack("q", seconds), 0)
        os.close(descriptor)
