"""Rows that are longer than max_length: what happens to them where nobody has said."""

from collections.abc import Sequence

from app.contracts.plan import Resolved
from app.datasets.token_checks import MINIMUM_SHARE, Cut, share_without_end
from app.datasets.tokens import TokenCount

JUDGED = ("dpo", "kto")
"""Methods whose answers are judged as a whole: a part of one has no meaning."""


def settle_long_rows(values: dict[str, Resolved], counts: Sequence[TokenCount]) -> dict[str, Resolved]:
    """Return the values with long rows divided, or left out where they cannot be, if too many answers would lose their end.

    A model whose answers are cut never learns to stop. Where a person has chosen, the choice stands.
    """
    chosen, length = values["long_rows"], values["max_length"].value
    lost = share_without_end(counts, length)
    if chosen.origin != "default" or chosen.value != "truncate" or lost <= 1 - MINIMUM_SHARE:
        return values
    judged = values["method"].value in JUDGED
    treatment, reason = ("drop", "long_rows.dropped") if judged else ("split", "long_rows.divided")
    if judged and all(count.length > length for count in counts):
        return values
    params = {"percent": round(100 * lost), "length": length}
    settled = Resolved(value=treatment, origin="planner", reason=reason, params=params, automatic=treatment)
    return {**values, "long_rows": settled}


def make_cut(values: dict[str, Resolved]) -> Cut:
    """Return what these values do to long rows."""
    return Cut(
        max_length=values["max_length"].value,
        long_rows=values["long_rows"].value,
        divisible=values["method"].value not in JUDGED,
        chosen=values["long_rows"].origin == "user",
    )
