"""The one pydantic configuration that all contracts share."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Immutable, rejects unknown fields; what passes between processes."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
