"""Loss scaling for float16: gradients smaller than 6e-8 would become zero, so they travel multiplied.

(Micikevicius et al. 2018, arXiv 1710.03740.) When a gradient overflows, the factor is halved and the same rows are computed
again: no step is left out, and the result does not depend on the factor. After many good steps it is doubled.
"""

from dataclasses import dataclass

from app.contracts.options import Dtype

START, LARGEST, SMALLEST = 2.0**7, 2.0**15, 2.0**-10
"""Losses are summed over tokens, not averaged, so gradients are larger than where 2^16 is usual."""
STEADY_STEPS = 200
"""Good steps after which the factor is doubled."""


@dataclass
class LossScale:
    """The factor that losses are multiplied by before the backward pass."""

    value: float = 1.0
    steady: int = 0
    """Good steps since it last changed."""
    moves: bool = False

    @staticmethod
    def of(dtype: Dtype) -> "LossScale":
        """Return the scale for weights of this type: a moving one for float16, 1 for the others, whose range is enough."""
        return LossScale(START, moves=True) if dtype == "float16" else LossScale()

    def lower(self) -> bool:
        """Halve the factor after an overflow; False when that is not possible."""
        if not self.moves or self.value <= SMALLEST:
            return False
        self.value /= 2
        self.steady = 0
        return True

    def count_good_step(self) -> None:
        """Note a step without overflow."""
        self.steady += 1
        if self.moves and self.steady >= STEADY_STEPS and self.value < LARGEST:
            self.value *= 2
            self.steady = 0
