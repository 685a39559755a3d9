"""What memory and time depend on besides the model: one micro-batch, its precision, its adapter; and how long rows are."""

from dataclasses import dataclass, replace
from functools import lru_cache

from app.contracts.hardware import DeviceKind
from app.contracts.options import Dtype, LongRows, Method, Quantization

DTYPE_BYTES: dict[Dtype, int] = {"float32": 4, "bfloat16": 2, "float16": 2}


def count_group(method: Method) -> int:
    """Return the rows of an example. They stay in one micro-batch: a preferred answer and the other one."""
    return 2 if method == "dpo" else 1


def count_largest(micro_batch: int, examples: int, group: int) -> int:
    """Return the rows of the largest micro-batch that so many examples can make."""
    return group * max(1, min(micro_batch // group, examples))


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
    packed: bool = False
    """Whether several rows are packed: one behind the other without padding, each padded in attention alone."""
    packed_tokens: int = 0
    """Tokens of this packed micro-batch; 0 = of as many full rows."""
    fused_attention: bool = False
    """Whether attention in bfloat16 is one kernel on this processor (training/attention.py)."""
    lanes: int = 1
    """Micro-batches that are computed at the same time (training/lanes.py)."""
    method: Method = "sft"

    @property
    def group(self) -> int:
        """Rows of an example."""
        return count_group(self.method)

    @property
    def places(self) -> int:
        """Tokens that attention sees, padding counted."""
        return self.micro_batch * self.length

    @property
    def tokens(self) -> int:
        """Tokens that everything else sees, padding counted."""
        return self.packed_tokens or self.places

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
    complete: bool = True
    """False when only a sample of the rows was counted: a longer one may exist."""
    trained_share: float = 1.0
    """Share of the tokens that the loss counts."""
    shared: int = 0
    """Tokens that nearly all rows begin with."""

    @property
    def longest(self) -> int:
        """Tokens of the longest row, 0 without rows."""
        return self.quantiles[-1] if self.quantiles else 0

    @property
    def shortest(self) -> int:
        """Tokens of the shortest row, 0 without rows."""
        return self.quantiles[0] if self.quantiles else 0

    def share_longer(self, length: int) -> float:
        """Return the share of rows with more than `length` tokens, 0..1, to 5 %."""
        return sum(1 for value in self.quantiles if value > length) / len(self.quantiles) if self.quantiles else 0.0

    def share_tokens_beyond(self, length: int, long_rows: LongRows) -> float:
        """Return the share of all tokens that training never sees at this max_length, 0..1; none when rows are split."""
        total = sum(self.quantiles)
        if not total or long_rows == "split":
            return 0.0
        if long_rows == "drop":
            return sum(value for value in self.quantiles if value > length) / total
        return sum(max(0, value - length) for value in self.quantiles) / total

    def cut(self, length: int, long_rows: LongRows) -> tuple["RowLengths", float]:
        """Return the lengths that training sees at this max_length, and how many rows there are for each one before."""
        if self.longest <= length:
            return self, 1.0
        quantiles, factor = _cut(self.quantiles, length, long_rows)
        return replace(self, quantiles=quantiles), factor


@lru_cache(maxsize=256)
def _cut(quantiles: tuple[int, ...], length: int, long_rows: LongRows) -> tuple[tuple[int, ...], float]:
    """Each quantile stands for one row: cut it, leave it out, or count its pieces; then take quantiles again."""
    if long_rows == "truncate":
        return tuple(min(value, length) for value in quantiles), 1.0
    if long_rows == "drop":
        pieces = [value for value in quantiles if value <= length]
    else:
        pieces = sorted(min(length, value - start) for value in quantiles for start in range(0, value, length))
    if not pieces:
        return (), 0.0
    last = len(quantiles) - 1
    spread = tuple(pieces[round(step * (len(pieces) - 1) / last)] for step in range(last + 1)) if last else tuple(pieces[:1])
    return spread, len(pieces) / len(quantiles)
