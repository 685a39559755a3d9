"""Compile kernels.c, attention.c and answering.c on this machine, once for each version of it and each kind of processor.

`python -m app.training.native.build` compiles and says what became of it. Without a C compiler, or where it fails,
training and answering use PyTorch's operators (primitives.py): the same results within rounding, more slowly.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

_FOLDER = Path(__file__).parent
_SOURCES = tuple(_FOLDER / name for name in ("kernels.c", "attention.c", "answering.c"))
_HEADERS = (_FOLDER / "kernels_typed.h", _FOLDER / "products.h")
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC", "-shared", "-std=c11")
_WIDE = "-mprefer-vector-width=512"
"""gcc alone knows it, and only for x86: without it gcc keeps to vectors of 256 bits."""
_COMPILERS = ("cc", "gcc", "clang")
SWITCH = "AFFINAGE_KERNELS"
"""Environment variable: `off` keeps to PyTorch's operators."""
SECONDS_AT_MOST = 120

log = logging.getLogger(__name__)


def find_library_file() -> Path | None:
    """Return the compiled library, compiled now if need be; None where that is impossible or switched off."""
    if os.environ.get(SWITCH, "on") == "off" or sys.platform != "linux":
        return None
    compiler = next((found for name in _COMPILERS if (found := shutil.which(name))), None)
    name = f"kernels-{_fingerprint()}.so"
    for folder in _folders():
        if (folder / name).is_file():
            return folder / name
    if compiler is None:
        return None
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            return _compile(compiler, folder / name)
        except OSError:
            continue
        except subprocess.SubprocessError as error:
            log.warning("the kernels were not compiled: %s", getattr(error, "stderr", "") or error)
            return None
    return None


@lru_cache(maxsize=1)
def load_library() -> ctypes.CDLL | None:
    """Return the library, None without one. Import torch first: the library then shares its OpenMP threads."""
    file = find_library_file()
    if file is None:
        return None
    try:
        return ctypes.CDLL(str(file))
    except OSError as error:
        log.warning("the kernels were not loaded: %s", error)
        return None


def _folders() -> tuple[Path, Path]:
    """Where the library may lie: beside its source, or in the user's cache where that cannot be written to."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return _FOLDER / "__pycache__", (Path(cache) if cache else Path.home() / ".cache") / "affinage"


@lru_cache(maxsize=1)
def _fingerprint() -> str:
    """Return a name for source, flags and kind of processor."""
    digest = hashlib.sha256(" ".join((*_FLAGS, _WIDE, platform.machine())).encode())
    for source in (*_SOURCES, *_HEADERS):
        digest.update(source.read_bytes())
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    for key in ("model name", "flags", "Features"):
        digest.update(next((line for line in lines if line.startswith(key)), "").encode())
    return digest.hexdigest()[:16]


def _compile(compiler: str, target: Path) -> Path:
    """Write `target`, complete or not at all; raise OSError or SubprocessError."""
    with tempfile.TemporaryDirectory(dir=target.parent) as aside:
        made = Path(aside) / target.name
        command = [compiler, *_FLAGS, "-o", str(made), *map(str, _SOURCES), "-lm"]
        wide = [*command, _WIDE] if platform.machine() == "x86_64" else command
        for attempt in (wide, command):
            done = subprocess.run(attempt, capture_output=True, text=True, timeout=SECONDS_AT_MOST, check=False)
            if done.returncode == 0:
                made.replace(target)
                return target
    raise subprocess.CalledProcessError(done.returncode, command, stderr=done.stderr[-500:])


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print(find_library_file() or "not compiled: training and answering use PyTorch's operators")  # noqa: T201
