"""Token counts and token views of rows under a model's tokenizer, computed in a limited child process.

A model's chat template is a program from the hub. The server never runs it: `python -m app.datasets` does, with a
limit on memory and on time, so that a template that loops or grows ends in a sentence and not in a hanging server.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from app.contracts.dataset import Example, Fallback
from app.contracts.frozen import Frozen
from app.core.errors import DatasetInvalid, ModelUnavailable
from app.datasets.tokenizer_files import fingerprint
from app.storage.dataset_dir import DatasetDir
from app.storage.job_dir import fsync_folder

CHILD_SECONDS = 120.0
"""Time for all rows of a data set; about 5,000 short rows a second are counted on one core."""

KEPT_VARIABLES = ("PATH", "LD_", "PYTHON", "VIRTUAL_ENV", "LANG", "LC_", "TZ", "COV")
"""What the child inherits by the beginnings of the names: no token and no password, whatever a template may find."""

_COUNTING: dict[str, threading.Lock] = {}
"""One lock for each count that was asked for."""

REFUSED = 3
"""Exit code of the child after an expected failure; the sentence's key and parameters stand on its stdout."""


class ShownToken(Frozen):
    """One token of a row."""

    id: int
    text: str
    trained: bool
    special: bool = False
    """Whether it is a control token: no text, but a mark in the sequence."""


class ShownRow(Frozen):
    """A row as the model reads it."""

    template_name: str
    """`chat`, or `plain` where the model has no chat template."""
    tokens: list[ShownToken]
    full_length: int
    """Tokens before the cut at `max_length`."""
    fallback: Fallback = "none"
    """How the row is written where the template rewrites earlier turns (render.py)."""


class TokenCount(NamedTuple):
    """What one row is in tokens; all 0 but `row` for a row that the template cannot write."""

    row: int
    """Number of the row in the file that was imported."""
    length: int
    """Tokens of the whole row, uncut."""
    trained: int
    """Tokens of it that are trained (the answers)."""
    shared: int
    """Tokens that it begins with like the first row."""
    starts: int
    """Begin-of-sequence tokens that it begins with, one after the other."""
    marked: bool
    """Whether its text holds the marks of a chat template (token_checks.py)."""
    answers: int
    """Answers that it is to teach."""
    ends: tuple[int, ...]
    """Of each answer whose end token is trained: tokens of the row up to and including that end."""


NUMBERS_BEFORE_ENDS = 8
"""How many numbers the child writes for a row before the ends: seven fields, and how many ends follow."""


def token_lengths(rows_file: Path, model_path: Path) -> list[int]:
    """Return the number of tokens of every row in a file of Examples, uncut; see token_counts."""
    return [count.length for count in token_counts(rows_file, model_path)]


def token_counts(rows_file: Path, model_path: Path, *, every: int = 1) -> list[TokenCount]:
    """Count the tokens of the rows 1, 1 + `every`, 1 + 2 `every`, ... in a file of Examples.

    Counts are kept in `tokens/` beside the file, under the hash of its content and of the tokenizer's files.
    Raise ModelUnavailable where the tokenizer or the template cannot be used.
    """
    cache = rows_file.parent / "tokens" / f"{_key(rows_file, model_path, every)}.rows"
    numbers = array("I")
    with _COUNTING.setdefault(cache.name, threading.Lock()):  # equal requests at once count once
        try:
            numbers.frombytes(cache.read_bytes())
        except FileNotFoundError:
            counted = _run_child(["count", str(rows_file), str(model_path), str(every)], b"", CHILD_SECONDS)
            numbers.frombytes(counted)
            _keep(cache, counted)
    return list(_read_counts(numbers))


def show_tokens(example: Example, model_path: Path, max_length: int, *, judged: bool = False) -> ShownRow:
    """Return one row as the model reads it; of a `judged` one only the last answer is trained.

    Raise ModelUnavailable, DatasetInvalid (`not_renderable`).
    """
    command = ["show", str(model_path), str(max_length), "judged" if judged else "taught"]
    answer = _run_child(command, example.model_dump_json().encode(), 20.0)
    return ShownRow.model_validate_json(answer)


def write_count(count: TokenCount) -> list[int]:
    """Return a count as the numbers that `token_counts` reads."""
    *numbers, ends = count
    return [*map(int, numbers), len(ends), *ends]


def _read_counts(numbers: "array[int]") -> Iterator[TokenCount]:
    place = 0
    while place < len(numbers):
        row, length, trained, shared, starts, marked, answers, count = numbers[place : place + NUMBERS_BEFORE_ENDS]
        place += NUMBERS_BEFORE_ENDS
        yield TokenCount(row, length, trained, shared, starts, bool(marked), answers, tuple(numbers[place : place + count]))
        place += count


def _run_child(arguments: list[str], given: bytes, timeout_seconds: float) -> bytes:
    kept = {name: value for name, value in os.environ.items() if name.startswith(KEPT_VARIABLES)}
    environment = {**kept, "TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "app.datasets", *arguments]
    try:
        done = subprocess.run(command, input=given, capture_output=True, timeout=timeout_seconds, env=environment, check=False)
    except subprocess.TimeoutExpired as error:
        raise ModelUnavailable("template_broken", reason=f"more than {timeout_seconds:.0f} s") from error
    if done.returncode == 0:
        return done.stdout
    if done.returncode == REFUSED:
        refusal = json.loads(done.stdout)
        kind = DatasetInvalid if refusal["key"].startswith(f"{DatasetInvalid.code}.") else ModelUnavailable
        raise kind(refusal["key"].partition(".")[2], **refusal["params"])
    last_line = (done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}").splitlines()[-1]
    raise ModelUnavailable("template_broken", reason=last_line[:200])


def _key(rows_file: Path, model_path: Path, every: int) -> str:
    parts = f"{rows_file.name} {every} {_content_hash(rows_file)} {fingerprint(model_path)}"
    return hashlib.sha256(parts.encode()).hexdigest()


def _content_hash(rows_file: Path) -> str:
    """The whole data set's hash where there is one (the split follows from it), else that of the file itself."""
    if (info := DatasetDir(rows_file.parent).find_info()) is not None:
        return info.content_hash
    with rows_file.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _keep(cache: Path, counted: bytes) -> None:
    cache.parent.mkdir(mode=0o700, exist_ok=True)
    aside = cache.with_name(f".{cache.name}.{os.getpid()}.{threading.get_native_id()}.tmp")
    aside.write_bytes(counted)
    aside.rename(cache)
    fsync_folder(cache.parent)
