"""Turn what pydantic refuses into the house error, once for HTTP, command line and services.

A detail holds `field`, pydantic's `code`, and `key` with `params`: `localise_details` writes the sentence in a language.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from app.core.errors import Invalid
from app.core.messages import Language, catalogue, localise

_WRAPPERS = frozenset({"body", "query", "path", "header"})
"""FastAPI puts the part of the request in front of the field's name."""
_BRANCH = re.compile(r"(constrained-|function-|literal\[|list\[|dict\[|nullable\[).*|str|int|float|bool")
"""Where a value may have several types, pydantic puts the type that it tried behind the field's name: no place in the request."""
_SAME_SENTENCE = {
    "int_from_float": "int_type",
    "int_parsing": "int_type",
    "int_parsing_size": "int_type",
    "float_parsing": "float_type",
    "finite_number": "float_type",
    "bool_parsing": "bool_type",
    "string_too_short": "too_short",
    "string_too_long": "too_long",
}


def refuse_values(error: ValidationError | Sequence[Mapping[str, Any]]) -> Invalid:
    """Return the house error for a ValidationError, or for the list that its `errors()` gives, one detail a field."""
    errors = error.errors(include_url=False) if isinstance(error, ValidationError) else error
    details = [_detail(found) for found in errors]
    fields = ", ".join(dict.fromkeys(str(detail["field"]) for detail in details if detail["field"]))
    return Invalid("values", details, fields=fields) if fields else Invalid("body", details)


def _detail(error: Mapping[str, Any]) -> dict[str, Any]:
    place = [str(part) for part in error["loc"] if not (isinstance(part, str) and _BRANCH.fullmatch(part))]
    if place and place[0] in _WRAPPERS:
        place = place[1:]
    code = str(error["type"])
    kind = _SAME_SENTENCE.get(code, code)
    params = {name: str(value).replace(" or ", ", ") for name, value in (error.get("ctx") or {}).items()}
    if f"value.{kind}" not in catalogue("en"):
        kind, params = "other", {"reason": str(error["msg"])}
    if kind in {"too_short", "too_long"}:
        params = {"limit": params.get("min_length", params.get("max_length", ""))}
    key = f"value.{kind}"
    return {"field": ".".join(place), "code": code, "key": key, "params": params, "message": localise(key, "en", **params)[0]}


def localise_details(details: Sequence[Mapping[str, Any]], language: Language) -> list[dict[str, Any]]:
    """Return the details with `message` in `language`, without `key` and `params`."""
    written = []
    for detail in details:
        shown = {name: value for name, value in detail.items() if name not in {"key", "params"}}
        if "key" in detail:
            shown["message"] = localise(detail["key"], language, **detail.get("params", {}))[0]
        written.append(shown)
    return written
