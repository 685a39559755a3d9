"""Values that the contract refuses, reported with the option that is at fault."""

from pydantic import ValidationError

from app.api.errors import field_detail
from app.cli.terminal import Terminal
from app.core.errors import Invalid


def report_refused_values(terminal: Terminal, error: ValidationError) -> None:
    """Name each option and what is wrong with its value, in the words of the API."""
    details = [field_detail(dict(problem), terminal.language) for problem in error.errors(include_url=False)]
    for detail in details:
        detail["field"] = "--" + str(detail["field"]).replace("_", "-")
    terminal.fail(Invalid("field", details=details, field=details[0]["field"], reason=details[0]["message"]))
