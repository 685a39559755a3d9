"""The one pydantic configuration that all contracts share."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Immutable, rejects unknown fields and numbers that are none (NaN, infinity); what passes between processes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())
