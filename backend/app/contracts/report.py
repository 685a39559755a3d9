"""`report.json`: what training changed, measured on rows that it never saw."""

from app.contracts.frozen import Frozen


class Report(Frozen):
    """Held-out loss before and after, and what was trained."""

    heldout_rows: int
    """0 when the data set is too small for a split; then the losses are None."""
    loss_before: float | None
    loss_after: float | None
    measures_before: dict[str, float] = {}
    """The method's further numbers on the held-out rows: `accuracy`, `reward_margin`, ..."""
    measures_after: dict[str, float] = {}
    train_loss_first: float
    train_loss_last: float
    steps: int
    planned_steps: int | None = None
    """More than `steps` where the training ended early; None in reports of versions that did not know it."""
    best_step: int | None = None
    """Step whose adapter is the result."""
    tokens: int
    seconds: float
    peak_bytes: int
    peak_reserved_bytes: int | None = None
    """What the allocator of a card held at most, its holes counted; None on the processor."""
    trained_rows: int
    truncated_rows: int
    dropped_rows: int
    trained_token_share: float
    """Trained tokens over all tokens, 0..1."""
