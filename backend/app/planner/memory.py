"""Peak memory of one training step in closed form. No torch, no files, microseconds.

The step is our engine's: frozen weights in 32, 16 or 4 bits, adapters with AdamW in 32 bits, attention without a stored
score matrix, a loss that works on a few hundred labelled tokens at a time, optional recomputation of each block.
Bytes that autograd keeps per token and block were counted with `saved_tensors_hooks` on stock layers
(shared/research/planner.md, section 2); constants marked "fitted" were set on real runs of our engine.
"""

from app.contracts.plan import MemoryParts, ModelShape
from app.core.units import MIB
from app.planner.run_shape import RunShape
from app.planner.shapes import count_block_weights, find_linears

NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Per 4-bit weight: half a byte, one byte per 64 for the scale, 4 bytes per 64 x 256 for the scale of scales."""
LOSS_ROWS = 256
"""Labelled tokens whose logits exist at the same time."""
CUDA_CONTEXT_BYTES = 400 * MIB
"""CUDA context with cuBLAS and cuDNN kernels loaded. A T4 was measured at 141 MiB, newer cards hold 300 to 500 MiB."""
PROCESS_BYTES = 520 * MIB
"""Resident memory of Python with torch and transformers imported, before any weight."""


def estimate_memory(shape: ModelShape, run: RunShape) -> MemoryParts:
    """Return the predicted peak of one optimizer step, by purpose."""
    trainable = run.adapter_params
    return MemoryParts(
        weights=count_weight_bytes(shape, run),
        adapter=4 * trainable,
        gradients=4 * trainable,
        optimizer=8 * trainable,
        activations=count_activation_bytes(shape, run),
        logits=count_loss_bytes(shape, run),
        workspace=count_workspace_bytes(shape, run),
        context=CUDA_CONTEXT_BYTES if run.device == "cuda" else PROCESS_BYTES,
    )


def count_weight_bytes(shape: ModelShape, run: RunShape) -> int:
    """Return the bytes of the frozen weights; 4 bits hold the blocks' matrices only, embeddings and norms keep 16."""
    if run.quantization == "nf4":
        quantised = shape.layers * count_block_weights(shape)
        return round(NF4_BYTES * quantised) + run.element_bytes * max(0, shape.params - quantised)
    return run.element_bytes * shape.params


def count_saved_bytes_per_token(shape: ModelShape, run: RunShape) -> int:
    """Return what autograd keeps of one block for one token, without recomputation."""
    hidden, inner = shape.hidden, shape.intermediate
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    e = run.element_bytes
    rank_outputs = e * run.rank * sum(len(layers) for layers in find_linears(shape).values())
    if shape.family == "gpt2":
        # gelu_new in its written-out form keeps 4 tensors of the inner size; qkv, attention output, two norm inputs.
        kept = e * (4 * inner + 3 * hidden + hidden + 2 * hidden) + 4 * shape.heads + 16
        # Inputs of the adapted layers that are not kept already: two norm outputs and the activation's output.
        return kept + e * (2 * hidden + inner) + rank_outputs
    if shape.family == "phi":
        kept = e * (4 * inner + 4 * queries + hidden) + 4 * shape.heads + 8
        return kept + e * (hidden + inner) + rank_outputs
    # gate, its activation, up; 32-bit inputs of the two norms; q, k, v (expanded to all heads) and attention output.
    norms = 4 if shape.family == "gemma3" else 2
    kept = 3 * e * inner + 4 * norms * hidden + 4 * e * queries + 4 * shape.heads + 8
    if shape.family in {"qwen3", "gemma3"}:
        kept += 4 * (queries + keys)
    return kept + e * (2 * hidden + inner) + rank_outputs


def count_transient_bytes_per_token(shape: ModelShape, run: RunShape) -> int:
    """Return what the backward pass of one block needs beside the kept tensors: gradients of its widest part."""
    return run.element_bytes * (3 * shape.intermediate + 4 * shape.hidden)


def count_activation_bytes(shape: ModelShape, run: RunShape) -> int:
    """Return the activations at the peak. With recomputation: every block's input, and one block in full."""
    block = count_saved_bytes_per_token(shape, run)
    transient = count_transient_bytes_per_token(shape, run)
    edges = run.element_bytes * 4 * shape.hidden
    if run.checkpointing:
        per_token = run.element_bytes * shape.layers * shape.hidden + block + transient + edges
    else:
        per_token = shape.layers * block + transient + edges
    return per_token * run.tokens


def count_loss_bytes(shape: ModelShape, run: RunShape) -> int:
    """Return logits, their 32-bit copy, probabilities and gradient of one chunk, and the gradient of the hidden states."""
    rows = min(LOSS_ROWS, run.tokens)
    return rows * shape.vocab * (2 * run.element_bytes + 8) + run.tokens * shape.hidden * run.element_bytes


def count_workspace_bytes(shape: ModelShape, run: RunShape) -> int:
    """Return libraries' scratch memory, and for 4 bits the one matrix that is unpacked at a time."""
    widest = max(linear.weights for layers in find_linears(shape).values() for linear in layers)
    unpacked = run.element_bytes * widest if run.quantization == "nf4" else 0
    if run.device == "cuda":
        # One cuBLAS workspace for the forward thread, one for autograd's: 8.1 MiB each, 32 MiB from Hopper on.
        return unpacked + 2 * (32 * MIB if run.compute_capability >= 9 else 8_519_680)
    return unpacked + run.element_bytes * widest
