"""Health, hardware and downloads."""

from typing import Literal

from pydantic import BaseModel

from app.api.schemas.errors import ErrorContent
from app.contracts.hardware import Hardware


class Health(BaseModel):
    """Liveness and versions."""

    status: str
    version: str
    python: str
    sqlite: str
    engine: str | None
    """Version of torch, when the training extra is installed."""
    language: str


class HardwareRead(Hardware):
    """The machine; the first device is the one that jobs use. `unused_reason` is a sentence in the reader's language."""


class DownloadRead(BaseModel):
    """How far the weights of a model have come."""

    model_id: str
    state: Literal["idle", "running", "done", "failed"]
    """`idle`: not on this machine and nothing under way; `done`: ready to use."""
    done_bytes: int
    total_bytes: int
    """0 until the size is known."""
    error: ErrorContent | None
