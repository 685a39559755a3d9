"""What commands print: rich text for people, exactly one JSON document for programs, errors on stderr."""

import json
import os
import sys
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from app.core.messages import Language, localise, pick_language

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console

    from app.core.errors import AffinageError


def language_of(environment: Mapping[str, str]) -> Language:
    """Return the language of the messages by POSIX's order: LC_ALL, LC_MESSAGES, LANG."""
    return pick_language(next((environment[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if environment.get(name)), None))


PIPE_COLUMNS = 160


class Terminal:
    """One run of the command line: its language and whether it speaks to a person or to a program."""

    def __init__(self, *, as_json: bool, language: Language) -> None:
        self.as_json = as_json
        self.language: Language = language

    @cached_property
    def console(self) -> "Console":
        """Where people read; plain text without a terminal."""
        from rich.console import Console

        # Without a terminal nobody's screen is 80 columns wide: tables in a file or a pipe must not be cut.
        return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS)

    @cached_property
    def errors(self) -> "Console":
        """Where people read what went wrong."""
        from rich.console import Console

        return Console(stderr=True, highlight=False)

    def say(self, key: str, /, **params: object) -> str:
        """Return the sentence `cli.<key>` in the user's language."""
        return localise(f"cli.{key}", self.language, **params)[0]

    def print(self, text: object = "", *, style: str | None = None) -> None:
        """Print for people; nothing with --json, whose document must stay alone."""
        if not self.as_json:
            self.console.print(text, style=style, soft_wrap=isinstance(text, str))

    def paragraph(self, text: str, indent: int = 0) -> None:
        """Print sentences for people: broken between words on a terminal, not at all in a file or a pipe."""
        from rich.padding import Padding
        from rich.text import Text

        if not self.console.is_terminal:
            self.print(" " * indent + text)
        elif not self.as_json:
            self.console.print(Padding(Text.from_markup(text), (0, 0, 0, indent), expand=False))

    def document(self, value: "BaseModel | dict[str, Any] | list[Any]") -> None:
        """Print the one JSON document of a command that was called with --json."""
        if self.as_json:
            print(to_json(value, indent=2))

    def line(self, value: "BaseModel | dict[str, Any]") -> None:
        """Print one line of a JSON stream, at once."""
        if self.as_json:
            print(to_json(value), flush=True)

    def fail(self, error: "AffinageError") -> None:
        """Report an expected failure: "error: message" and the hint, or the house error body with --json."""
        message, hint = error.text(self.language)
        self.report(error.code, message, hint, error.details)

    def report(self, code: str, message: str, hint: str = "", details: list[dict[str, Any]] | None = None) -> None:
        """Print one failure in the form that the caller reads."""
        if self.as_json:
            body: dict[str, Any] = {"code": code, "message": message, "hint": hint}
            print(to_json({"error": body | ({"details": details} if details else {})}, indent=2))
            return
        from rich.markup import escape

        self.errors.print(f"[bold red]{self.say('error')}:[/] {escape(message)}", soft_wrap=True)
        for detail in details or []:
            place = ".".join(str(detail[name]) for name in ("field", "row", "column") if detail.get(name) is not None)
            self.errors.print(f"  [yellow]{escape(place)}[/] {escape(str(detail.get('message', '')))}", soft_wrap=True)
        if hint:
            self.errors.print(f"  [dim]{escape(hint)}[/]", soft_wrap=True)


def to_json(value: "BaseModel | dict[str, Any] | list[Any]", indent: int | None = None) -> str:
    """Return JSON of a pydantic model, or of plain values that may hold such models."""
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json")
    return json.dumps(value, ensure_ascii=False, indent=indent, default=lambda model: model.model_dump(mode="json"))


def open_terminal(arguments: list[str]) -> Terminal:
    """Read --json from the command line itself, so that even a usage error answers in the form that was asked for."""
    return Terminal(as_json="--json" in arguments, language=language_of(os.environ))
