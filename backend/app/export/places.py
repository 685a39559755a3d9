"""The tokens at which an export is compared with the trained model: held-out rows, as training would see them."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.contracts.dataset import Example, Message
from app.contracts.job import TrainingJob
from app.core.errors import DatasetInvalid, Invalid
from app.datasets.render import Renderer
from app.storage.job_dir import JobDir
from app.training.rows import encode_rows

ENOUGH_PLACES = 2000
"""One place in 2000 is 0.05 %: a bound of 99.9 % can be told from 99.95 %. More would cost minutes on a processor."""
MOST_ROWS = 256
PROMPTS = 20


@dataclass(frozen=True, slots=True)
class PlacedRow:
    """One row's ids and the places whose tokens are predicted from all before them (none is 0)."""

    ids: list[int]
    places: list[int]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What someone asks, or the beginning of a text, and the ids that training made of it."""

    messages: list[Message] | None
    text: str | None
    ids: list[int]


@dataclass(frozen=True)
class Compared:
    """What all engines are asked."""

    rows: list[PlacedRow]
    source: Literal["heldout", "training"]
    rows_in_all: int
    """Rows of the source that can be encoded."""
    prompts: list[Prompt]

    @property
    def places(self) -> int:
        """Number of compared tokens."""
        return sum(len(row.places) for row in self.rows)


def choose(job_dir: JobDir, job: TrainingJob, renderer: Renderer, enough: int = ENOUGH_PLACES) -> Compared:
    """Choose rows evenly over the held-out ones (the training rows where there are none) until there are `enough` places.

    Every token of a row but its first is compared, learned or not, and each beginning once. Raises DatasetInvalid when no row
    can be used.
    """
    has_heldout = job_dir.heldout_file.is_file() and job.dataset.heldout_rows > 0
    file = job_dir.heldout_file if has_heldout else job_dir.train_file
    chosen, rows_in_all = _encode(file, job, renderer)
    if not chosen:
        raise DatasetInvalid("nothing_to_compare")
    rows = place_once(chosen)
    source: Literal["heldout", "training"] = "heldout" if has_heldout else "training"
    return Compared(_until(rows, enough), source, rows_in_all, _prompts(file, renderer))


def choose_shown(job_dir: JobDir, job: TrainingJob, renderer: Renderer, tokens: int) -> list[list[int]]:
    """Return the ids of training rows, chosen evenly over all, until there are `tokens`."""
    rows, _ = _encode(job_dir.train_file, job, renderer)
    wanted = max(1, round(len(rows) * tokens / max(1, sum(map(len, rows)))))
    return [rows[place] for place in _spread(len(rows), min(wanted, len(rows)))]


def _encode(file: Path, job: TrainingJob, renderer: Renderer) -> tuple[list[list[int]], int]:
    """Return the ids of at most MOST_ROWS rows of a file, evenly over all, as training would see them, and how many there are."""
    with tempfile.TemporaryDirectory() as folder:
        encoded = encode_rows(
            file,
            Path(folder) / "compared.rows",
            renderer,
            max_length=job.optimization.max_length,
            long_rows=job.optimization.long_rows,
            check_stop=lambda: None,
            judged=job.method in ("dpo", "kto"),
        )
        return [encoded.rows[place].ids for place in _spread(len(encoded.rows), MOST_ROWS)], len(encoded.rows)


def place_once(rows: Sequence[list[int]]) -> list[PlacedRow]:
    """Return the rows that have a beginning no row before them has, with the places after those beginnings.

    What follows the same tokens is one prediction: the words with which a template begins would count once for each row.
    """
    placed = []
    known: dict[tuple[int, int], int] = {}
    """A tree of beginnings: (number of a beginning, next token) -> number of the longer one."""
    for ids in rows:
        beginning, places = 0, []
        for place, token in enumerate(ids[:-1], start=1):
            step = (beginning, token)
            if step not in known:
                known[step] = len(known) + 1
                places.append(place)
            beginning = known[step]
        if places:
            placed.append(PlacedRow(ids, places))
    return placed


def thinned(rows: Sequence[PlacedRow], places: int) -> list[PlacedRow]:
    """Return the first rows that have about `places` places together."""
    return _until(list(rows), places)


def _until(rows: list[PlacedRow], places: int) -> list[PlacedRow]:
    taken: list[PlacedRow] = []
    left = places
    for row in rows:
        if left <= 0:
            break
        taken.append(PlacedRow(row.ids, row.places[:left]))
        left -= len(row.places)
    return [row for row in taken if row.places]


def _spread(count: int, most: int) -> list[int]:
    """Return at most `most` places of `count`, evenly over all, in order."""
    if count <= most:
        return list(range(count))
    if most == 1:
        return [0]
    return [round(index * (count - 1) / (most - 1)) for index in range(most)]


def _prompts(file: Path, renderer: Renderer) -> list[Prompt]:
    """Return the first questions of the file with their ids; those that the template cannot write are left out."""
    prompts: list[Prompt] = []
    with file.open("rb") as lines:
        for line in lines:
            if len(prompts) == PROMPTS:
                break
            example = Example.model_validate_json(line)
            prompt = _prompt(example, renderer)
            if prompt is not None:
                prompts.append(prompt)
    return prompts


def _prompt(example: Example, renderer: Renderer) -> Prompt | None:
    if example.messages is None:
        text = (example.text or "")[:2000]
        try:
            ids = renderer.encode(Example(row=example.row, text=text), 1 << 30).ids[:-1]  # the end token is not in the text
        except DatasetInvalid:
            return None
        return Prompt(None, text, ids)
    asked = example.messages[: max((place for place, turn in enumerate(example.messages) if turn.role == "assistant"), default=0)]
    if not asked:
        return None
    try:
        return Prompt(asked, None, renderer.encode_prompt(asked))
    except Invalid:
        return None
