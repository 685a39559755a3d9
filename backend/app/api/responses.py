"""Documented error answers, so that the OpenAPI document names the house body everywhere."""

from typing import Any

from app.api.schemas.errors import ErrorBody

_MEANING = {
    400: "The request cannot be read",
    401: "A token or a signed-in browser is needed",
    403: "Not from here",
    404: "No such thing",
    409: "Not in this state",
    413: "Too large",
    415: "Not a supported kind of file",
    422: "A value is out of its range",
    500: "A defect of Affinage",
    503: "The model hub cannot be reached",
    507: "Disk or memory is full",
}


def problems(*status_codes: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses=` argument that documents these statuses with the house body."""
    return {code: {"model": ErrorBody, "description": _MEANING[code]} for code in status_codes}


def correct_error_types(document: dict[str, Any]) -> dict[str, Any]:
    """Say that errors are JSON everywhere: FastAPI gives those of an event stream the stream's own media type."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                if int(status) >= 400 and "text/event-stream" in answer.get("content", {}):
                    answer["content"] = {"application/json": answer["content"].pop("text/event-stream")}
    return document


NOT_FOUND = problems(404)
