"""Peak memory of one training step in closed form. No torch, no files, microseconds.

The step is our engine's: frozen weights in 32, 16 or 4 bits, adapters with AdamW in 32 bits, attention without a stored
score matrix, a loss that works on a few hundred labelled tokens at a time, optional recomputation of each block.
Bytes that autograd keeps per token and block were counted with `saved_tensors_hooks` on stock layers
(shared/research/planner.md, section 2); constants marked "fitted" were set on real runs of our engine.
"""

from app.contracts.hardware import DeviceKind
from app.contracts.plan import MemoryParts, ModelShape
from app.core.units import MIB
from app.planner.moments import count_moment_bytes
from app.planner.run_shape import RunShape
from app.planner.shapes import count_block_weights, find_linears

NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Per 4-bit weight: half a byte, one byte per 64 for the scale, 4 bytes per 64 x 256 for the scale of scales."""
LOSS_ELEMENTS: dict[DeviceKind, int] = {"cpu": 1 << 23, "cuda": 1 << 24}
"""Logits that exist at the same time (training/loss.py): on a card 32 MB in 16 bits, 64 in fp32, which is small enough for
those of 2 GB too. On a processor every lane (training/lanes.py) has its own, while all that its step keeps is there: half as
many, still 170 positions of the embedded model."""
FEWEST_LOSS_ROWS: dict[DeviceKind, int] = {"cpu": 128, "cuda": 1}
"""Positions that have their logits at the same time however many words there are: a product of fewer rows costs more for
each, because the head is read and arranged anew (Qwen2.5-0.5B's head, AMD EPYC, one core: 3.9 ms a row at 48 rows, 3.0 at 128,
2.8 at 256). On a card not measured."""
LOSS_STEP = 16
"""Where it works on several parts, the loss takes a multiple of so many positions: a processor keeps machine code for each size
of a product (planner/prepared.py), and without it every micro-batch would have a last part of another size."""
FUSED_FAMILIES = frozenset({"gpt2", "llama", "mistral", "qwen2"})
"""Families whose blocks are fused on a processor (training/blocks.py)."""
PRODUCT_ATTENTION_TOKENS = 512
"""Where attention is no kernel on a processor, rows up to this length attend by plain products and keep their weights
(training/attention.py)."""
CPU_HOLES = 1.08
"""On the processor the heap reaches this much further than the tensors in it. Replays (planner/trace/heap.py) of Llama and
GPT-2 steps, with and without recomputation, give 1.02 to 1.19 of activations and logits together, 1.07 where both are large."""
CUDA_CONTEXT_BYTES = 400 * MIB
"""CUDA context with cuBLAS and cuDNN kernels loaded. A T4 was measured at 141 MiB, newer cards hold 300 to 500 MiB."""
PROCESS_BYTES = 450 * MIB
"""Resident memory of a trainer beside its tensors: 414 MiB after the imports (torch 2.13, transformers 5.23); the rest,
tokenizer and kernels' code, fitted on the 18 jobs of bench/planner/cpu_grid.py (one run each, 2026-11-23)."""


def estimate_memory(shape: ModelShape, run: RunShape) -> MemoryParts:
    """Return the predicted peak of one optimizer step, by purpose."""
    trainable = run.adapter_params
    return MemoryParts(
        weights=count_weight_bytes(shape, run),
        adapter=4 * trainable,
        gradients=4 * trainable,
        optimizer=count_moment_bytes(run.device, run.quantization, trainable),
        activations=count_activation_bytes(shape, run),
        logits=count_loss_bytes(shape, run),
        workspace=count_workspace_bytes(shape, run),
        context=CUDA_CONTEXT_BYTES if run.device == "cuda" else PROCESS_BYTES,
    )


def count_weight_bytes(shape: ModelShape, run: RunShape) -> int:
    """Return the bytes of the frozen weights; 4 bits hold the blocks' matrices only, embeddings and norms keep 16."""
    if run.quantization == "nf4":
        quantised = shape.matrix_weights or shape.layers * count_block_weights(shape)
        return round(NF4_BYTES * quantised) + run.element_bytes * max(0, shape.params - quantised)
    return run.element_bytes * shape.params


def count_probe_bytes(run: RunShape) -> int:
    """Return the copies of adapter and optimizer states that the probe before the start holds (training/probe.py).

    They lie in a processor's memory beside the longest micro-batch; on a card's run they are not on the card.
    """
    return 12 * run.adapter_params if run.device == "cpu" else 0


def keeps_weights(run: RunShape) -> bool:
    """Return whether attention keeps its weights for the backward pass, as plain products do."""
    in_blocks = run.fused_attention and run.dtype == "bfloat16"
    return run.device == "cpu" and run.length <= PRODUCT_ATTENTION_TOKENS and not in_blocks


def count_saved_bytes(shape: ModelShape, run: RunShape) -> int:
    """Return what autograd keeps of one block for the whole micro-batch, without recomputation."""
    return count_saved_bytes_per_token(shape, run) * run.tokens + count_saved_bytes_per_place(shape, run) * run.places


def count_saved_bytes_per_token(shape: ModelShape, run: RunShape) -> int:
    """Return what autograd keeps of one block for one token, without recomputation, attention's own tensors left out.

    Each adapted layer keeps its input, shared by layers that read the same one, and its rank-sized product.
    """
    hidden, inner, e = shape.hidden, shape.intermediate, run.element_bytes
    if run.device == "cpu" and shape.family in FUSED_FAMILIES:
        # Both halves keep their input, the MLP what goes into the activation; norms and activations are computed again.
        wide = inner if shape.family == "gpt2" else 2 * inner
        ranks = run.rank * sum(map(len, find_linears(shape).values()))
        return e * (2 * hidden + wide + ranks) + 16
    kept = e * shape.heads * shape.head_dim + e * run.rank * sum(map(len, find_linears(shape).values()))
    if shape.family == "gpt2":
        # Two norms (input, output), gelu_new in its written-out form (4 tensors), the activation's output.
        return kept + e * (4 * hidden + 5 * inner) + 16
    if shape.family == "phi":
        # One norm; attention and MLP read the same output.
        return kept + e * (2 * hidden + 5 * inner) + 8
    # 32-bit inputs of the norms and their outputs; gate, its activation, up, their product.
    norms = 4 if shape.family == "gemma3" else 2
    kept += norms * 4 * hidden + 2 * e * hidden + 4 * e * inner + 8
    if shape.family in {"qwen3", "gemma3"}:
        # Norms on queries and keys, 32-bit inputs.
        kept += 4 * (shape.heads + shape.kv_heads) * shape.head_dim
    return kept


def count_saved_bytes_per_place(shape: ModelShape, run: RunShape) -> int:
    """Return queries, keys and values of one block for one place; on the processor also the attention weights."""
    e = run.element_bytes
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    if run.device == "cpu":
        # The kernels keep their output, as fused blocks do, and a 32-bit statistic per head.
        beside = 4 * shape.heads
        if keeps_weights(run):
            beside = e * shape.heads * run.length
        if not keeps_weights(run) or shape.family in FUSED_FAMILIES:
            beside += e * queries
        return e * (queries + 2 * keys) + beside
    # Keys and values are expanded to all heads before PyTorch's attention; one 32-bit statistic per head.
    return 3 * e * queries + 4 * shape.heads


def count_transient_bytes(shape: ModelShape, run: RunShape) -> int:
    """Return what the backward pass of one block needs beside the kept tensors: gradients of its widest part."""
    wide = run.element_bytes * (3 * shape.intermediate + 4 * shape.hidden) * run.tokens
    if keeps_weights(run):
        return max(wide, 2 * run.element_bytes * shape.heads * run.length * run.places)
    return wide


def count_activation_bytes(shape: ModelShape, run: RunShape) -> int:
    """Return the activations at the peak. With recomputation: every block's input, and one block in full.

    The loss works while all blocks' tensors are kept, and its own are gone when the last block's backward pass begins:
    of the two only the larger counts.
    """
    block = count_saved_bytes(shape, run)
    transient = count_transient_bytes(shape, run)
    kept = run.element_bytes * 4 * shape.hidden * run.tokens
    if run.checkpointing:
        kept += run.element_bytes * shape.layers * shape.hidden * run.tokens
        transient += block
    else:
        kept += shape.layers * block
    casts = run.adapter_params * run.element_bytes if run.dtype != "float32" and not run.checkpointing else 0
    peak = kept + casts + max(0, transient - count_loss_bytes(shape, run))
    return round(CPU_HOLES * peak) if run.device == "cpu" else peak


def count_loss_rows(device: DeviceKind, words: int) -> int:
    """Return how many labelled positions have their logits over so many words at the same time."""
    rows = max(FEWEST_LOSS_ROWS[device], LOSS_ELEMENTS[device] // words)
    return rows // LOSS_STEP * LOSS_STEP or rows


def count_loss_bytes(shape: ModelShape, run: RunShape) -> int:
    """Return the logits of one chunk and their 32-bit copy, and the hidden states' gradient."""
    rows = min(count_loss_rows(run.device, shape.vocab), run.tokens)
    # On a processor the logits become their gradient in place.
    each = run.element_bytes + (0 if run.device == "cpu" else 4)
    return rows * shape.vocab * each + 2 * run.tokens * shape.hidden * run.element_bytes


def count_workspace_bytes(shape: ModelShape, run: RunShape) -> int:
    """Return libraries' scratch memory, and for 4 bits the one matrix that is unpacked at a time."""
    widest = max(linear.weights for layers in find_linears(shape).values() for linear in layers)
    unpacked = run.element_bytes * widest if run.quantization == "nf4" else 0
    if run.device == "cuda":
        # One cuBLAS workspace for the forward thread, one for autograd's: 8.1 MiB each, 32 MiB from Hopper on.
        return unpacked + 2 * (32 * MIB if run.compute_capability >= 9 else 8_519_680)
    return unpacked + run.element_bytes * widest
