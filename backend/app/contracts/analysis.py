"""What the second look at a data set found: rows that are no error and may still spoil a model."""

from typing import Any, Literal

from app.contracts.frozen import Frozen

FindingCode = Literal[
    "exact_duplicates",
    "near_duplicates",
    "contradictions",
    "refusals",
    "placeholders",
    "other_languages",
    "unusual_lengths",
    "emails",
    "phones",
    "secrets",
    "heldout_overlap",
]
Remedy = Literal["drop", "mask", "move"]
"""What the fix of a finding does: leave the rows out, replace what was found in them, move them to training."""

REMEDIES: dict[FindingCode, Remedy] = {
    "exact_duplicates": "drop",
    "near_duplicates": "drop",
    "contradictions": "drop",
    "refusals": "drop",
    "placeholders": "drop",
    "other_languages": "drop",
    "unusual_lengths": "drop",
    "emails": "mask",
    "phones": "mask",
    "secrets": "mask",
    "heldout_overlap": "move",
}


class FoundRow(Frozen):
    """One row of a finding."""

    row: int
    """As in Example."""
    other: int | None = None
    """The row that it repeats or contradicts."""
    text: str = ""
    """What was found, shortened."""


class Finding(Frozen):
    """One kind of remark about many rows."""

    code: FindingCode
    count: int
    """Rows that its fix changes."""
    rows: list[FoundRow]
    """The first of them, at most 50."""
    params: dict[str, Any] = {}
    """For its message."""


class Analysis(Frozen):
    """`analysis/analysis.json` in a data set's folder."""

    content_hash: str
    """Of the rows that were looked at."""
    rows: int
    seconds: float
    languages: dict[str, int]
    """Rows by language, as far as one was recognised; the most frequent first."""
    findings: list[Finding]
