"""Memory of a processor's prepared matrix products, which a training fills as micro-batches of new sizes come.

In 16 bits PyTorch multiplies through oneDNN, which writes machine code for each product of new sizes and keeps it: half of
it for good, half until KEPT_PRODUCTS others came. Micro-batches of one size need some 34 different products. In 32 bits
another library multiplies (MKL), which keeps nothing.
"""

import math

from app.planner.memory import CPU_TOKENS_PER_MICRO_BATCH
from app.planner.run_shape import RowLengths, RunShape

KEPT_PRODUCTS = 256
"""Matrix products that oneDNN may keep prepared in a trainer (its own default is 1,024)."""
PRODUCT_BYTES = 272 << 10
"""Measured (torch 2.13, oneDNN 3.12, AVX-512 and AMX): bytes of one product, once for good and once more while it is kept.
60 sizes of one product left 32 to 38 MiB with the default, 15 to 17 MiB with nothing kept."""
PRODUCTS_PER_SIZE = 34
"""Measured on our engine's step (Llama): the heap's used bytes grew by 18 MiB with each micro-batch of a new size."""
LENGTH_STEP = 16
"""Micro-batches are padded to a multiple of this (training/batching.py)."""
SIZES_PER_LENGTH = 1.75
"""Different sizes for each different padded length when micro-batches hold several rows: the last one of a step holds fewer.
From simulated runs: 2,000 rows of 60 to 400 tokens have 22 padded lengths and 45 different numbers of tokens."""

FILLED_SHARE = 0.7
"""Of the engine's limit of tokens, what micro-batches of mixed rows use: 48 rows of 60 to 400 tokens made 16 of them."""


def count_sizes(lengths: RowLengths, micro_rows: int, max_length: int, micro_batches: float) -> float:
    """Return how many different micro-batches (by their tokens) a run of `micro_batches` random ones meets, on average."""
    if not lengths.quantiles:
        return 0.0
    first, last = (math.ceil(min(value, max_length) / LENGTH_STEP) for value in (lengths.quantiles[0], lengths.longest))
    there = float(last - first + 1)
    if there > 1 and micro_rows > 1:
        there *= SIZES_PER_LENGTH
    return there * -math.expm1(-micro_batches / there) if there > 1 else min(1.0, micro_batches)


def count_prepared_bytes(run: RunShape, lengths: RowLengths, max_length: int, train_rows: int, epochs: int) -> int:
    """Return the bytes that prepared products hold at the end of a run; 0 on a card and in 32 bits."""
    if run.device != "cpu" or run.dtype == "float32" or not lengths.quantiles:
        return 0
    mean = sum(min(value, max_length) for value in lengths.quantiles) / len(lengths.quantiles)
    at_once = max(1.0, min(run.micro_batch, FILLED_SHARE * CPU_TOKENS_PER_MICRO_BATCH / mean))
    sizes = count_sizes(lengths, run.micro_batch, max_length, epochs * train_rows / at_once)
    # One more size for the probe before the start.
    products = round((sizes + 1) * PRODUCTS_PER_SIZE)
    return (products + min(products, KEPT_PRODUCTS)) * PRODUCT_BYTES
