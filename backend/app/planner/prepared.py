"""Memory of a processor's prepared matrix products, which a training fills as micro-batches of new sizes come.

In 16 bits PyTorch multiplies through oneDNN, which writes machine code for each product of new sizes and keeps it: half of
it for good, half until KEPT_PRODUCTS others came. In 32 bits another library multiplies (MKL), which keeps nothing.
"""

from app.planner.memory import keeps_weights
from app.planner.micro_batches import simulate_steps
from app.planner.run_shape import RowLengths, RunShape

KEPT_PRODUCTS = 256
"""Matrix products that oneDNN may keep prepared in a trainer (its own default is 1,024). Writing one takes 6 ms (measured)."""
PRODUCT_BYTES = 272 << 10
"""Measured (torch 2.13, oneDNN 3.12, AVX-512 and AMX): bytes of one product, once for good and once more while it is kept.
60 sizes of one product left 32 to 38 MiB with the default, 15 to 17 MiB with nothing kept."""
PRODUCTS_PER_SIZE = 24
"""Counted in the engine's step, fused blocks: 24 (Llama) and 21 (GPT-2) products of sizes that change with the tokens."""
ATTENTION_PRODUCTS = 6
"""Where attention is products: their sizes are rows and length, two forward and four backward."""


def count_products(run: RunShape, lengths: RowLengths, max_length: int, rows_per_step: int, steps: int) -> float:
    """Return how many products of different sizes a run of so many optimizer steps needs, about."""
    if steps < 1 or not lengths.quantiles:
        return 0.0
    tokens, places = simulate_steps(lengths, run, rows_per_step, max_length, steps).count_sizes(steps)
    # One more size for the probe before the start.
    return (tokens + 1) * PRODUCTS_PER_SIZE + (places + 1) * (ATTENTION_PRODUCTS if keeps_weights(run) else 0)


def count_prepared_bytes(run: RunShape, lengths: RowLengths, max_length: int, rows_per_step: int, steps: int) -> int:
    """Return the bytes that prepared products hold at the end of a run; 0 on a card and in 32 bits."""
    if run.device != "cpu" or run.dtype == "float32":
        return 0
    products = count_products(run, lengths, max_length, rows_per_step, steps)
    return round((products + min(products, KEPT_PRODUCTS)) * PRODUCT_BYTES)
