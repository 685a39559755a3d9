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
