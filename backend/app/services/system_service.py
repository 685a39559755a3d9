"""Versions of what this installation is made of."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from app.storage.db import sqlite_module


@cache
def versions() -> dict[str, str]:
    """Return the versions that a bug report needs; `torch` is absent without the training extra. Imports no engine."""
    found = {"python": platform.python_version(), "sqlite": str(sqlite_module().sqlite_version)}
    for name, package in {"affinage": "affinage", "torch": "torch", "transformers": "transformers"}.items():
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            continue
    return {"affinage": "0", **found}
