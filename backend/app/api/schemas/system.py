"""Health and hardware."""

from pydantic import BaseModel

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
    """The machine; the first device is the one that jobs use."""
