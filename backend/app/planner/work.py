"""What a micro-batch asks of a device, in closed form: operations, bytes, kernels. The counterpart of a traced profile.

A frozen weight costs 4 operations per token (forward, and the gradient of its input), not 6: its own gradient is never
formed (shared/research/planner.md, section 2.6). Operations follow from the shape; the first block's input needs no
gradient, which is left out here: counted step by step, real ones have 0 to 6 % fewer. Constants marked "counted" are
means over the engine's own steps, counted operation by operation (app/training/calibration) on a Llama and a GPT-2 whose
blocks were not yet compiled halves (ADR 0012): on a processor they count too much.
"""

from dataclasses import dataclass
from functools import lru_cache

from app.contracts.plan import ModelShape
from app.contracts.trace import StepCosts
from app.planner.memory import count_saved_bytes_per_place, count_saved_bytes_per_token, keeps_weights
from app.planner.run_shape import RunShape
from app.planner.shapes import count_block_weights
from app.planner.traced import Terms, Work, count_terms, list_coefficients

TRAFFIC_PER_KEPT_BYTE = {True: 11.5, False: 8.3}
"""Counted: bytes that element-wise work moves per byte that autograd keeps, in 16 bits (True) and in 32."""
LAUNCHES_PER_BLOCK = {True: 190.0, False: 158.0}
"""Counted: kernels of one block with adapters on all its layers, forward and backward, in 16 bits (True) and in 32."""
LAUNCHES_PER_STEP = 40.0
"""Counted: embedding, last norm, loss."""
RECOMPUTED_SHARE = 0.45
"""Counted: launches and traffic of a block that are done once more when it is recomputed."""
FORWARD_SHARE = 0.40
"""Counted: of a step's element-wise traffic and launches, what a forward pass without gradients has."""
LOSS_TRAFFIC_PER_LOGIT = 24.0
"""Bytes that the loss moves per logit beside reading it and writing its gradient: cast, log-softmax, exponential, one-hot."""
SCORE_BLOCK = 32
"""Queries and keys of a block of the attention kernel (training/native/attention.c)."""
ATTENTION_BYTES_PER_SCORE = 5.0
"""Counted: numbers that the products of an attention with stored scores move per score, forward and backward."""


@dataclass(frozen=True, slots=True)
class WorkTerms:
    """How the work of a micro-batch grows with its size."""

    flops_half: Terms
    flops_full: Terms
    flops_attention: Terms
    bytes_elementwise: Terms
    bytes_gemm: Terms
    bytes_unpacked: Terms
    launches: Terms

    def at(self, batch: float, length: float, labels: float) -> Work:
        """Return the work of `batch` rows of `length` tokens, `labels` of all of them trained."""
        sizes = count_terms(batch * length, batch * length, length, labels)
        return Work(*(sum(a * b for a, b in zip(terms, sizes, strict=True)) for terms in self.list_terms()))

    def list_terms(self) -> tuple[Terms, ...]:
        """Return the terms in the order of `Work`'s fields."""
        return (
            self.flops_half,
            self.flops_full,
            self.flops_attention,
            self.bytes_elementwise,
            self.bytes_gemm,
            self.bytes_unpacked,
            self.launches,
        )


def read_terms(costs: StepCosts) -> WorkTerms:
    """Return the traced costs of one of a profile's passes."""
    return WorkTerms(
        flops_half=list_coefficients(costs.flops_half),
        flops_full=list_coefficients(costs.flops_full),
        flops_attention=list_coefficients(costs.flops_attention),
        bytes_elementwise=list_coefficients(costs.bytes_elementwise),
        bytes_gemm=list_coefficients(costs.bytes_gemm),
        bytes_unpacked=list_coefficients(costs.bytes_unpacked),
        launches=list_coefficients(costs.launches),
    )


@lru_cache(maxsize=512)
def count_step_work(shape: ModelShape, run: RunShape) -> WorkTerms:
    """Return the work of a micro-batch, forward and backward. Of `run` everything counts but its size in rows."""
    passes = 3.0 if run.checkpointing else 2.0
    again = 1.0 + (RECOMPUTED_SHARE if run.checkpointing else 0.0)
    # Q K^T and P V: 4 operations per score and width forward, twice that backward; the fused kernel forms the scores anew.
    fused = not keeps_weights(run)
    attention = (12.0 + (4.0 if run.checkpointing else 0.0) + (2.0 if fused else 0.0)) * _find_computed_share(run)
    adapter = 8.0 if run.checkpointing else 6.0
    return _count(
        shape, run, passes=passes, adapter=adapter, attention=attention, head=4.0, again=again, stored=not fused,
        loss=2 * run.element_bytes + LOSS_TRAFFIC_PER_LOGIT,
    )  # fmt: skip


@lru_cache(maxsize=512)
def count_forward_work(shape: ModelShape, run: RunShape) -> WorkTerms:
    """Return the work of the same rows without gradients."""
    return _count(
        shape, run, passes=1.0, adapter=2.0, attention=4.0 * _find_computed_share(run), head=2.0, again=FORWARD_SHARE,
        stored=False, loss=run.element_bytes + LOSS_TRAFFIC_PER_LOGIT / 2,
    )  # fmt: skip


def _find_computed_share(run: RunShape) -> float:
    """Return the share of an attention's scores that is computed: the kernel leaves out the future, block by block."""
    return 0.5 * (1 + SCORE_BLOCK / run.length) if run.fused_attention and run.dtype == "bfloat16" else 1.0


def _count(
    shape: ModelShape, run: RunShape, *, passes: float, adapter: float, attention: float, head: float, again: float,
    stored: bool, loss: float,
) -> WorkTerms:  # fmt: skip
    """`stored`: attention keeps its scores. `loss`: element-wise bytes per logit. The others: operations, see the callers."""
    half, e = run.dtype != "float32", float(run.element_bytes)
    weights = float(shape.layers * count_block_weights(shape))
    scores = float(shape.layers * shape.heads * shape.head_dim)
    dense = 2.0 * passes * weights + adapter * run.adapter_params
    words = head * shape.hidden * shape.vocab
    flops: Terms = (0.0, 0.0, 0.0, dense, 0.0, attention * scores, words)
    traffic = TRAFFIC_PER_KEPT_BYTE[half] * shape.layers * again
    by_token = traffic * count_saved_bytes_per_token(shape, run)
    by_place = traffic * count_saved_bytes_per_place(shape, run)
    # The adapter is cast to 16 bits once per call and its gradient back.
    casts = 12.0 * run.adapter_params if half else 0.0
    # rank x (inputs + outputs) is the adapter's size: what goes into and out of all adapted layers.
    ends = run.adapter_params / run.rank
    products: Terms = (
        e * weights * passes, 0.0, 0.0, e * ends * (passes + 4.0), 0.0,
        ATTENTION_BYTES_PER_SCORE * e * shape.layers * shape.heads if stored else 0.0,
        2.0 * e * shape.vocab,
    )  # fmt: skip
    # 4 bits: each pass unpacks every matrix, half a byte read and 2 bytes written.
    unpacked = 2.5 * weights * passes if run.quantization == "nf4" else 0.0
    launches = LAUNCHES_PER_BLOCK[half] * shape.layers * again + LAUNCHES_PER_STEP
    none: Terms = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    return WorkTerms(
        flops_half=flops if half else none,
        flops_full=none if half else flops,
        flops_attention=(0.0, 0.0, 0.0, 0.0, 0.0, attention * scores, 0.0),
        bytes_elementwise=(casts, 0.0, 0.0, by_token, by_place, 0.0, loss * shape.vocab),
        bytes_gemm=products,
        bytes_unpacked=(unpacked, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        launches=(launches, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    )
