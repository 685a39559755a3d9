"""What a base model's files and ids look like. Cheap to import: nothing here speaks HTTP."""

import os
import re
from collections.abc import Callable
from pathlib import Path

MODEL_ID = re.compile(r"[A-Za-z0-9_][\w.-]{0,95}(/[A-Za-z0-9_][\w.-]{0,95})?")
COMMIT = re.compile(r"[0-9a-f]{40}")
WEIGHTS = re.compile(r"model\.safetensors|model-\d{5}-of-\d{5}\.safetensors")
INDEX = "model.safetensors.index.json"
TEXT_FILES = frozenset({"chat_template.jinja", "merges.txt", "vocab.txt"})

PROGRESS_SECONDS = 0.5
"""Time between two progress reports."""
Progress = Callable[[int, int], None]
"""Called with (bytes here, bytes in all)."""


def find_cached_snapshot(model_id: str) -> Path | None:
    """Return the folder of the newest commit of `model_id` in huggingface_hub's own cache, complete or not."""
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    repository = cache / ("models--" + model_id.replace("/", "--"))
    try:
        commit = (repository / "refs" / "main").read_text("utf-8").strip()
    except OSError:
        return None
    return repository / "snapshots" / commit if COMMIT.fullmatch(commit) else None
