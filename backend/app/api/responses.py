"""Documented error answers, so that the OpenAPI document names the house body everywhere."""

from typing import Any

from starlette.responses import StreamingResponse

from app.api.schemas.errors import ErrorBody, OpenAIErrorBody

STREAM = "text/event-stream"

_MEANING = {
    200: "Events, one JSON document in each `data:`",
    400: "The request cannot be read",
    401: "A token or a signed-in browser is needed",
    403: "Not from here",
    404: "No such thing",
    409: "Not in this state",
    413: "Too large",
    415: "Not a supported kind of file",
    422: "A value is out of its range",
    500: "A defect of Affinage",
    502: "The upstream server does not answer",
    503: "The model hub cannot be reached",
    507: "Disk or memory is full",
}


OPENAI_STATUSES = (400, 401, 403, 404, 413, 422, 500, 502, 503, 507)
"""What calls below /v1 may answer: 409, 415 and 422 become 400 there."""


class EventStream(StreamingResponse):
    """Pieces of an event stream that are bytes already, sent as they are."""

    media_type = STREAM


def problems(*status_codes: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses=` argument that documents these statuses with the house body."""
    return {code: {"model": ErrorBody, "description": _MEANING[code]} for code in status_codes}


def correct_streams(document: dict[str, Any]) -> dict[str, Any]:
    """Describe event streams as OpenAPI 3.2 does (4.14.4): what is under `model` of a 200 is the JSON in each `data:`.

    And errors are JSON everywhere: FastAPI gives those of a stream or of an HTML page that answer's own media type.
    """
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                content = answer.get("content", {})
                if int(status) >= 400:
                    if content and "application/json" not in content:
                        answer["content"] = {"application/json": next(iter(content.values()))}
                    continue
                stream = content.get(STREAM, {})
                if "schema" in stream:
                    event = {name: value for name, value in stream.pop("schema").items() if name != "type"}
                    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": event}
                    fields = {"data": data, "event": {"type": "string"}, "id": {"type": "string"}}
                    fields["retry"] = {"type": "integer", "minimum": 0}
                    stream["itemSchema"] = {"type": "object", "properties": fields, "required": ["data"]}
    return document


def streamed(model: Any) -> dict[int | str, dict[str, Any]]:
    """Return the `responses=` argument that documents the JSON of an event stream."""
    return {200: {"model": model, "description": _MEANING[200]}}


OPENAI_PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": OpenAIErrorBody, "description": _MEANING[code]} for code in OPENAI_STATUSES
}
NOT_FOUND = problems(404)
