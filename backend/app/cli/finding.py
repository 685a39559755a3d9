"""What `affinage doctor` found out about one link of the chain."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One link of the chain."""

    name: str
    """Part of the message key `cli.doctor_<name>`."""
    state: Literal["ok", "warning", "failed"]
    """`failed`: nothing can be trained before this is mended; `warning`: something is less than it could be."""
    detail: str
    hint: str = ""
