"""The hyper-parameters as command line options, made from the contract: names, types, ranges and help stand there once.

`@takes_options` gives a command one option per field of FinetuningOptions and hands it over those that were used, in a
dictionary named `options`. Ranges are checked by the contract, as for the HTTP body, not by the command line.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Union, get_args, get_origin

import typer

from app.contracts.options import FinetuningOptions

PANEL = "Hyper-parameters (each one automatic unless given)"

SHORTER = {"num_epochs": ("--epochs",)}
"""Second names of options."""


def plain_type(annotation: Any) -> Any:
    """Return the type that typer reads: without None and constraints."""
    if get_origin(annotation) is Annotated:
        return plain_type(get_args(annotation)[0])
    if get_origin(annotation) in (Union, type(int | None)):
        return plain_type(next(part for part in get_args(annotation) if part is not type(None)))
    if get_origin(annotation) is list:
        return list[str]
    return annotation


def declare(name: str) -> inspect.Parameter:
    """Return the command line parameter for one field."""
    field = FinetuningOptions.model_fields[name]
    typed: Any = plain_type(field.annotation)
    flag = f"--{name.replace('_', '-')}"
    declaration = f"{flag}/--no-{flag[2:]}" if typed is bool else flag
    help_text = (field.description or "") + (" Repeat it, or separate with commas." if typed == list[str] else "")
    option = typer.Option(declaration, *SHORTER.get(name, ()), help=help_text, rich_help_panel=PANEL, show_default=False)
    annotation = Annotated[typed | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def split(values: list[str]) -> list[str]:
    """Return the names of a repeated option, each of which may hold several."""
    return [name for value in values for part in value.split(",") if (name := part.strip())]


def takes_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` every hyper-parameter as an option; it receives those that were used as `options`."""
    own = inspect.signature(command, eval_str=True)
    kept = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in own.parameters.values()
        if parameter.name != "options"
    ]

    @functools.wraps(command)
    def called(**values: Any) -> None:
        options = {name: values.pop(name) for name in FinetuningOptions.model_fields}
        given = {name: split(value) if isinstance(value, list) else value for name, value in options.items() if value is not None}
        command(**values, options=given)

    called.__signature__ = own.replace(parameters=[*kept, *map(declare, FinetuningOptions.model_fields)])  # type: ignore[attr-defined]
    called.__annotations__ = {
        parameter.name: parameter.annotation for parameter in called.__signature__.parameters.values()  # type: ignore[attr-defined]
    }  # fmt: skip
    return called
