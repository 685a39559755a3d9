"""Values that the contract refuses, reported with the option that is at fault."""

from pydantic import ValidationError

from app.cli.terminal import Terminal
from app.core.errors import Invalid
from app.core.validation import localise_details, refuse_values


def report_refused_values(terminal: Terminal, error: ValidationError) -> None:
    """Name each option and what is wrong with its value, in the words of the API."""
    details = localise_details(refuse_values(error).details, terminal.language)
    for detail in details:
        detail["field"] = "--" + str(detail["field"]).replace("_", "-")
    terminal.fail(Invalid("values", details, fields=", ".join(detail["field"] for detail in details)))
