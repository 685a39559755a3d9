"""Guess which column plays which part, from the names of the columns and the first rows."""

import json
import unicodedata
from collections.abc import Iterable, Sequence

from app.contracts.dataset import Mapping, Shape
from app.core.errors import DatasetInvalid
from app.datasets.rows import RawRow

INSTRUCTION_NAMES = ("instruction", "instructions", "consigne", "consignes", "task", "tache")
QUESTION_NAMES = ("question", "questions", "q", "demande")
PROMPT_NAMES = ("prompt", "prompts", "query", "user", "human", "request", "requete", "source", "invite")
OUTPUT_NAMES = (
    "output",
    "outputs",
    "response",
    "responses",
    "completion",
    "completions",
    "answer",
    "answers",
    "reponse",
    "reponses",
)
LATE_OUTPUT_NAMES = ("sortie", "target", "assistant", "reply", "a", "r", "solution", "resultat")
INPUT_NAMES = ("input", "inputs", "context", "contexte", "entree", "passage")
SYSTEM_NAMES = ("system", "system_prompt", "systeme", "message_systeme")
HISTORY_NAMES = ("history", "historique")
MESSAGES_NAMES = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "turns")
TEXT_NAMES = ("text", "texte", "content", "contenu", "document", "article", "body")
PREFERENCE_NAMES = ("chosen", "rejected")
MEDIA_NAMES = ("image", "images", "audio", "audios", "video", "videos")

_LONGEST_NAME = 80
"""A "name of a column" beyond this many characters is a sentence: the file has no header."""

EXPECTED = "question + answer; instruction (+ input) + output; prompt + completion; messages; conversations; text"
"""What the refusal of an unknown table offers, in this order."""


def detect_mapping(columns: Sequence[str], sample: Sequence[RawRow]) -> Mapping:
    """Return the mapping of a file with these columns.

    Raise DatasetInvalid (`preference_data`, `media_data`, `running_text`, `one_column`, `no_shape`), naming the columns.
    """
    names = _Names(columns)
    if names.find(PREFERENCE_NAMES):
        raise DatasetInvalid("preference_data", columns=_listed(columns))
    if (media := names.find(MEDIA_NAMES)) and any(row.values.get(media) not in (None, "", []) for row in sample):
        raise DatasetInvalid("media_data", column=media)
    system = names.find(SYSTEM_NAMES)
    for column in names.find_all(MESSAGES_NAMES):
        if shape := _turns_shape(row.values.get(column) for row in sample):
            return Mapping(shape=shape, messages=column, system=system)
    history = names.find(HISTORY_NAMES)
    output = names.find(OUTPUT_NAMES) or names.find(LATE_OUTPUT_NAMES)
    if output:
        context = names.find(INPUT_NAMES)
        shapes: tuple[tuple[Shape, tuple[str, ...]], ...] = (
            ("alpaca", INSTRUCTION_NAMES),
            ("question_answer", QUESTION_NAMES),
            ("prompt_completion", PROMPT_NAMES),
        )
        for shape, wanted in shapes:
            if (prompt := names.find(wanted)) and _holds_text(prompt, sample):
                return Mapping(shape=shape, instruction=prompt, input=context, output=output, system=system, history=history)
        if context and _holds_text(context, sample):
            return Mapping(shape="prompt_completion", instruction=context, output=output, system=system, history=history)
    if text := names.find(TEXT_NAMES):
        return Mapping(shape="text", text=text)
    if any(len(column) > _LONGEST_NAME for column in columns):
        raise DatasetInvalid("running_text")
    if len(columns) == 1:
        raise DatasetInvalid("one_column", column=_shortened(columns[0]))
    raise DatasetInvalid("no_shape", columns=_listed(columns), expected=EXPECTED)


def check_mapping(mapping: Mapping, columns: Sequence[str]) -> None:
    """Raise DatasetInvalid (`mapping_column`, `mapping_incomplete`) where a mapping given by hand cannot be used."""
    for part in ("instruction", "input", "output", "system", "history", "messages", "text"):
        column = getattr(mapping, part)
        if column is not None and column not in columns:
            raise DatasetInvalid("mapping_column", column=_shortened(column), columns=_listed(columns))
    required = {"messages": ("messages",), "sharegpt": ("messages",), "text": ("text",)}
    for part in required.get(mapping.shape, ("instruction", "output")):
        if getattr(mapping, part) is None:
            raise DatasetInvalid("mapping_incomplete", shape=mapping.shape, part=part)


def parse_turns(value: object) -> object:
    """Return a list of turns; in CSV it stands as JSON text in the cell. Anything else comes back unchanged."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _turns_shape(values: Iterable[object]) -> Shape | None:
    """Decide by the keys of the first turn that there is."""
    for value in values:
        turns = parse_turns(value)
        if isinstance(turns, list) and turns and isinstance(turns[0], dict):
            keys = turns[0].keys()
            if {"role", "content"} <= keys:
                return "messages"
            if {"from", "value"} <= keys or {"human", "assistant"} <= keys:
                return "sharegpt"
    return None


def _holds_text(column: str, sample: Sequence[RawRow]) -> bool:
    """Say whether any of the first rows has text there (a vocabulary file maps the word "prompt" to a number)."""
    return any(isinstance(row.values.get(column), str) for row in sample)


class _Names:
    """Columns by their name without case, accents, spaces and punctuation."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns: dict[str, str] = {}
        for column in columns:
            self._columns.setdefault(_plain(column), column)

    def find(self, wanted: Sequence[str]) -> str | None:
        """Return the column with the first of the wanted names that there is."""
        return next((self._columns[name] for name in wanted if name in self._columns), None)

    def find_all(self, wanted: Sequence[str]) -> list[str]:
        """Return every column with a wanted name."""
        return [self._columns[name] for name in wanted if name in self._columns]


def _plain(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return "_".join("".join(letter if letter.isalnum() else " " for letter in letters).split())


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(_shortened(column) for column in columns[:8])
    return f"{shown}, …" if len(columns) > 8 else shown


def _shortened(name: str) -> str:
    """One line of at most 40 characters."""
    line = " ".join(name.split())
    return line if len(line) <= 40 else f"{line[:39]}…"
