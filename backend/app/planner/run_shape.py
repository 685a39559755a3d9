"""What memory and time depend on besides the model: one micro-batch, its precision, its adapter; and how long rows are."""

from dataclasses import dataclass

from app.contracts.hardware import DeviceKind
from app.contracts.options import Dtype, Quantization

DTYPE_BYTES: dict[Dtype, int] = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class RunShape:
    """One micro-batch as the engine will compute it."""

    device: DeviceKind
    micro_batch: int
    length: int
    """Tokens of the longest row in it, padding counted."""
    dtype: Dtype
    quantization: Quantization
    adapter_params: int
    rank: int
    checkpointing: bool
    compute_capability: int = 0
    """Major version, 0 for the processor."""

    @property
    def tokens(self) -> int:
        """Tokens of the micro-batch, padding counted."""
        return self.micro_batch * self.length

    @property
    def element_bytes(self) -> int:
        """Bytes of one number of the frozen weights and of the stream between the blocks."""
        return DTYPE_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class RowLengths:
    """Distribution of row lengths in tokens, before any cut."""

    quantiles: tuple[int, ...]
    """Lengths at 0, 5, ..., 100 % of the rows (21 numbers, rising); empty for a data set without rows."""
    measured: bool
    """False when estimated from characters, because no tokenizer is at hand."""
    trained_share: float = 1.0
    """Share of the tokens that the loss counts."""

    @property
    def longest(self) -> int:
        """Tokens of the longest row, 0 without rows."""
        return self.quantiles[-1] if self.quantiles else 0

    def share_longer(self, length: int) -> float:
        """Return the share of rows with more than `length` tokens, 0..1, to 5 %."""
        return sum(1 for value in self.quantiles if value > length) / len(self.quantiles) if self.quantiles else 0.0

    def mean_longest_of(self, rows: int, limit: int) -> float:
        """Return the expected length of the longest of `rows` random rows, each cut at `limit`.

        For the distribution function F, P(longest <= s) = F(s) ** rows.
        """
        if not self.quantiles:
            return 0.0
        bins = len(self.quantiles) - 1
        if bins == 0:
            return float(min(self.quantiles[0], limit))
        expected, below = 0.0, 0.0
        for index in range(1, bins + 1):
            upto = (index / bins) ** rows
            middle = (min(self.quantiles[index - 1], limit) + min(self.quantiles[index], limit)) / 2
            expected += (upto - below) * middle
            below = upto
        return expected
