"""How long a run still takes: the plan at first, then more and more what its own steps took."""

PRIOR_STEPS = 4
"""The plan counts as much as so many measured steps."""


def estimate_remaining(
    *,
    planned_seconds: float,
    step: int,
    total_steps: int,
    train_seconds: float,
    evaluations_left: int,
    evaluation_seconds: float,
) -> float:
    """Return the seconds until the last step's evaluation is done.

    `planned_seconds` is the plan's median for the whole run, 0 when there is no plan; `train_seconds` were spent in the
    first `step` steps. Evaluations are taken as they were measured; the plan's share of them is in its steps.
    """
    left = total_steps - step
    measured = train_seconds / step * left + evaluation_seconds * evaluations_left
    if planned_seconds <= 0:
        return measured
    planned = planned_seconds * left / total_steps
    weight = step / (step + PRIOR_STEPS)
    return weight * measured + (1 - weight) * planned
