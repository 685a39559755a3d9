"""One cell of a record as text, or the reason why it cannot be one."""

from collections.abc import Mapping as Values

from app.contracts.dataset import Problem

_ANSWERS = {"text", "answer_start"}
"""Keys of an answer in SQuAD: accepted texts, each with its place; the first is taken (Rajpurkar et al. 2016)."""


class Unusable(Exception):
    """The record has this problem."""

    def __init__(self, key: str, column: str | None, **params: object) -> None:
        super().__init__(key)
        self.key, self.column, self.params = key, column, params

    def problem(self, row: int) -> Problem:
        """Return it with its row."""
        params = {name: make_writable(value) if isinstance(value, str) else value for name, value in self.params.items()}
        return Problem(row=row, column=self.column, key=self.key, params=params)


def read_text(values: Values[str, object], column: str | None) -> str:
    """Return a value as text: numbers as they are written, nothing for null and for a missing key. Raise Unusable."""
    value = values.get(column) if column is not None else None
    if value is None:
        return ""
    if isinstance(value, str):
        return check_text(value, column)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, dict) and value.keys() == _ANSWERS and isinstance(texts := value["text"], list):
        return check_text(texts[0], column) if texts and isinstance(texts[0], str) else ""
    raise Unusable("wrong_type", column, kind=kind_of(value))


def read_tidy(values: Values[str, object], column: str | None) -> str:
    """Return a value as text without the white space around it; the indentation of several lines (code) stays."""
    return tidy(read_text(values, column))


def tidy(text: str) -> str:
    """Return a text with unified line breaks and without the white space around it; an indented first line stays so."""
    text = unify_breaks(text)
    stripped = text.strip()
    return stripped if "\n" not in stripped else text.strip("\n").rstrip()


def unify_breaks(text: str) -> str:
    """Return a text whose lines all end in `\\n`."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def make_writable(text: str) -> str:
    """Return a text with question marks for half surrogate pairs, to be shown."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def check_text(text: str, column: str | None) -> str:
    """Unify line breaks; refuse half surrogate pairs (`\\ud800` in JSON), which no encoding can write. Raise Unusable."""
    text = unify_breaks(text)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise Unusable("bad_character", column) from error
    return text


def kind_of(value: object) -> str:
    """Return what JSON calls a value that is no text."""
    kinds = {bool: "boolean", list: "list", dict: "object", str: "text"}
    return kinds.get(type(value), "number")
