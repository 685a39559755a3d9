"""How long a run takes, in closed form: arithmetic, memory traffic and launches of each micro-batch, then everything around.

A frozen weight costs 4 operations per token (forward, and the gradient of its input), not 6: its own gradient is never
formed. Formulas: shared/research/planner.md, section 2.6. Efficiencies marked "fitted" were set on real runs.
"""

from dataclasses import dataclass

from app.contracts.plan import ModelShape
from app.planner.gpus import Rates
from app.planner.memory import CPU_TOKENS_PER_MICRO_BATCH, count_saved_bytes_per_token, count_weight_bytes
from app.planner.run_shape import RowLengths, RunShape
from app.planner.shapes import count_block_weights

GPU_HALF_SHARE = 0.37
GPU_FULL_SHARE = 0.60
GPU_BANDWIDTH_SHARE = 0.70
GPU_LAUNCH_SECONDS = 13e-6
"""Fitted on 59 steps of a T4 (shared/research/planner.md): shares of the peaks that training reaches, time of one launch."""
CPU_HALF_SHARE = 0.56
CPU_FULL_SHARE = 0.95
CPU_ATTENTION_SHARE = 0.12
CPU_TRAFFIC_PER_KEPT_BYTE = 22.0
"""From a profile of a lean step of the embedded model on two cores (506 tokens/s; shared/prototypes/README.md): 55 % of
1.98 ms per token in matrix products, 10 % in attention's small ones, 35 % in element-wise work. In 32 bits: 227 tokens/s."""
TRAFFIC_PER_KEPT_BYTE = 8.0
"""Bytes moved by element-wise work for each byte that autograd keeps: written, read back, gradients, temporaries."""
CPU_LAUNCH_SECONDS = 5e-6
MOST_DRAWN = 64
"""Rows of one step that are simulated; a larger step is scaled up."""
LAUNCHES_PER_BLOCK = 110
"""Kernels of one block, forward and backward, with adapters on all its linear layers."""
EVALUATION_SHARE = 0.36
"""A forward pass against a full step."""
START_SECONDS = {"cuda": 12.0, "cpu": 5.0}
"""Interpreter, libraries, and on a card its context."""
LOAD_BYTES_PER_SECOND = 0.8e9
SAVE_SECONDS = 1.0
P90_FACTOR_KNOWN = 1.35
P90_FACTOR_GUESSED = 2.0
"""P90 over P50. The roofline's error on rows that it was not fitted on: 90 % below 24 %; a guess for an unknown card."""


@dataclass(frozen=True, slots=True)
class RunTime:
    """Seconds of a whole run."""

    p50: float
    p90: float


@dataclass(frozen=True, slots=True)
class MicroCost:
    """Seconds of one micro-batch, forward and backward: `tokens * (per_token + per_token_length * length) + fixed`."""

    per_token: float
    per_token_length: float
    fixed: float
    least: float
    """Launching all kernels takes this long even if they have nothing to do."""

    def seconds(self, rows: float, length: float) -> float:
        """Return the seconds for `rows` rows padded to `length` tokens."""
        return max(self.least, rows * length * (self.per_token + self.per_token_length * length) + self.fixed)


def estimate_micro_cost(shape: ModelShape, run: RunShape, rates: Rates, trained_share: float) -> MicroCost:
    """Return what one micro-batch costs on a device with these rates."""
    passes = 3 if run.checkpointing else 2
    weights = shape.layers * count_block_weights(shape)
    products = 2.0 * weights * passes + 4.0 * shape.hidden * shape.vocab * max(0.02, trained_share)
    adapter = 6.0 * run.adapter_params
    attention = 2.0 * shape.layers * shape.heads * shape.head_dim * (passes + 1)
    traffic = shape.layers * count_saved_bytes_per_token(shape, run) * passes / 2
    # 4 bits: each pass unpacks every matrix, half a byte read and 2 bytes written.
    unpacking = 2.5 * weights * passes if run.quantization == "nf4" else 0.0
    half = run.dtype != "float32"
    if run.device == "cpu":
        rate = 1e12 * (CPU_HALF_SHARE * rates.half_tflops if half else CPU_FULL_SHARE * rates.full_tflops)
        adapter_rate, attention_rate = rate, rate / (CPU_HALF_SHARE if half else CPU_FULL_SHARE) * CPU_ATTENTION_SHARE
        traffic *= CPU_TRAFFIC_PER_KEPT_BYTE
        bandwidth, launch = rates.bandwidth_gb * 1e9, CPU_LAUNCH_SECONDS
    else:
        rate = 1e12 * (GPU_HALF_SHARE * rates.half_tflops if half else GPU_FULL_SHARE * rates.full_tflops)
        adapter_rate = 1e12 * GPU_FULL_SHARE * rates.full_tflops if run.quantization == "nf4" else rate
        attention_rate = rate
        traffic *= TRAFFIC_PER_KEPT_BYTE
        bandwidth, launch = GPU_BANDWIDTH_SHARE * rates.bandwidth_gb * 1e9, GPU_LAUNCH_SECONDS
    return MicroCost(
        per_token=products / rate + adapter / adapter_rate + traffic / bandwidth,
        per_token_length=attention / attention_rate,
        fixed=unpacking / bandwidth,
        least=LAUNCHES_PER_BLOCK * shape.layers * passes / 2 * launch,
    )


def estimate_step_seconds(cost: MicroCost, run: RunShape, lengths: RowLengths, rows: int, max_length: int) -> float:
    """Return the seconds of the micro-batches of one optimizer step over `rows` rows.

    As the engine does it: rows sorted by length, cut at `micro_batch` rows, on the processor also at so many tokens.
    """
    drawn = min(rows, MOST_DRAWN)
    seconds, longest, count = 0.0, 0.0, 0
    most_tokens = CPU_TOKENS_PER_MICRO_BATCH if run.device == "cpu" else 1 << 60
    for length in lengths.draw_step(drawn, max_length):
        if count and (count == run.micro_batch or longest * (count + 1) > most_tokens):
            seconds += cost.seconds(count, longest)
            count = 0
        longest = longest if count else max(1.0, length)
        count += 1
    return (seconds + cost.seconds(count, longest)) * rows / drawn if count else 0.0


def estimate_seconds(
    shape: ModelShape, run: RunShape, rates: Rates, lengths: RowLengths, *, train_rows: int, heldout_rows: int, epochs: int,
    accumulation: int, max_length: int,
) -> RunTime:  # fmt: skip
    """Return the time of a whole run: start, loading, every epoch, evaluations before and after each, saving."""
    start = START_SECONDS[run.device] + count_weight_bytes(shape, run) / LOAD_BYTES_PER_SECOND
    if train_rows <= 0 or not lengths.quantiles:
        return RunTime(start, start * P90_FACTOR_KNOWN)
    rows_per_step = min(train_rows, run.micro_batch * accumulation)
    cost = estimate_micro_cost(shape, run, rates, lengths.trained_share)
    step = estimate_step_seconds(cost, run, lengths, rows_per_step, max_length)
    optimizer = 28.0 * run.adapter_params / (rates.bandwidth_gb * 1e9)
    per_row = step / rows_per_step
    epoch = train_rows * per_row + -(-train_rows // rows_per_step) * optimizer
    evaluation = heldout_rows * per_row * EVALUATION_SHARE
    p50 = start + epochs * epoch + (epochs + 1) * evaluation + SAVE_SECONDS
    return RunTime(p50, p50 * (P90_FACTOR_KNOWN if rates.known and lengths.measured else P90_FACTOR_GUESSED))
