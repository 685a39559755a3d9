"""In which precision sums are made: fp32, or the model's own where that is finer (fp64, in which the tests compare)."""

import torch
from torch import Tensor


def widen_type(dtype: torch.dtype) -> torch.dtype:
    """Return `dtype`, or fp32 where that is finer."""
    return torch.promote_types(dtype, torch.float32)


def widen(x: Tensor) -> Tensor:
    """Return `x` in at least fp32."""
    return x.to(widen_type(x.dtype))
