"""The house error body."""

from typing import Any

from pydantic import BaseModel


class ErrorContent(BaseModel):
    """`code` is stable; `message` and `hint` follow Accept-Language."""

    code: str
    message: str
    hint: str
    details: list[dict[str, Any]] = []


class ErrorBody(BaseModel):
    """Every answer with a status of 400 or more."""

    error: ErrorContent


class OpenAIErrorContent(BaseModel):
    """The same failure as OpenAI's clients read it; the hint belongs to the sentence."""

    message: str
    type: str
    """`invalid_request_error` or `server_error`."""
    param: str | None
    code: str


class OpenAIErrorBody(BaseModel):
    """Every answer below /v1 with a status of 400 or more."""

    error: OpenAIErrorContent
