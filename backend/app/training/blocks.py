"""Replace decoder blocks of the Llama kind by ones that compute the same with the functions of fused.py."""

from typing import Any

from torch import Tensor, nn
from transformers.activations import SiLUActivation
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from transformers.models.mistral.modeling_mistral import MistralDecoderLayer
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer

from app.training.attention import NAME, Packed, Unpacked, causal_attention
from app.training.batching import Layout
from app.training.fused import AddedProduct, GatedProduct, NormedProducts, RotatedHeads, SharedInput
from app.training.lora import LoraLayer
from app.training.memory import trim_heap

_KNOWN = (LlamaDecoderLayer, MistralDecoderLayer, Qwen2DecoderLayer)
"""Norm, rotary attention, residual, norm, gated MLP, residual; nothing else."""


class FusedBlock(GradientCheckpointingLayer):  # type: ignore[misc]
    """A block in training: takes and returns (rows, length, H), or (1, tokens, H) with the layout of packed rows.

    It has no cache, so it cannot generate.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        # The same children by the same names: adapters are found by them.
        self.self_attn, self.mlp = block.self_attn, block.mlp
        self.input_layernorm, self.post_attention_layernorm = block.input_layernorm, block.post_attention_layernorm
        self.gradient_checkpointing = block.gradient_checkpointing
        if block.gradient_checkpointing:
            self._gradient_checkpointing_func = block._gradient_checkpointing_func
        attention, mlp = block.self_attn, block.mlp
        self.qkv = SharedInput([attention.q_proj, attention.k_proj, attention.v_proj])
        self.gate_up = SharedInput([mlp.gate_proj, mlp.up_proj])
        self.counts = (self.qkv.sizes[0] // attention.head_dim, self.qkv.sizes[1] // attention.head_dim)
        self.train(block.training)

    def forward(
        self, hidden_states: Tensor, position_embeddings: tuple[Tensor, Tensor], layout: Layout | None = None, **_: Any
    ) -> Tensor:
        """Return the stream after attention and MLP."""
        rows, length, width = hidden_states.shape
        x = hidden_states.reshape(rows * length, width)
        products = _normed(x, self.input_layernorm, self.qkv)
        cos, sin = position_embeddings
        if layout is not None:
            products = Unpacked.apply(products, layout, self.qkv.outputs)  # type: ignore[no-untyped-call]
            rows = layout.rows
            # Every row begins at the first position.
            cos, sin = (part.index_select(1, layout.sources[: layout.length]) for part in (cos, sin))
        query, key, value = RotatedHeads.apply(products, cos, sin, rows, self.counts)  # type: ignore[no-untyped-call]
        attended = causal_attention(self.self_attn, query, key, value, None, scaling=self.self_attn.scaling)[0]
        attended = attended.view(-1, self.counts[0] * self.self_attn.head_dim)
        if layout is not None:
            attended = Packed.apply(attended, layout, len(x))  # type: ignore[no-untyped-call]
        x = _added(x, attended, self.self_attn.o_proj)
        products = _normed(x, self.post_attention_layernorm, self.gate_up)
        gated = GatedProduct.apply(products, self.gate_up.sizes[0])  # type: ignore[no-untyped-call]
        return _added(x, gated, self.mlp.down_proj).view_as(hidden_states)


def _normed(x: Tensor, norm: Any, shared: SharedInput) -> Tensor:
    y: Tensor = NormedProducts.apply(  # type: ignore[no-untyped-call]
        x, norm.weight, norm.variance_epsilon, shared, *shared.parameters()
    )
    return y


def _added(residual: Tensor, x: Tensor, layer: Any) -> Tensor:
    adapter: Any = (layer.lora_A, layer.lora_B, layer.scale) if isinstance(layer, LoraLayer) else (None, None, 0.0)
    linear = layer.wrapped if isinstance(layer, LoraLayer) else layer
    y: Tensor = AddedProduct.apply(residual, x, linear.weight, *adapter)  # type: ignore[no-untyped-call]
    return y


def fuse_blocks(model: nn.Module) -> int:
    """Replace every block that is known and whose attention is ours; return how many. Call it after `attach`."""
    if model.config._attn_implementation != NAME:  # type: ignore[union-attr]
        return 0
    found = [(name, module) for name, module in model.named_modules() if type(module) in _KNOWN and _is_plain(module)]
    for name, block in found:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, FusedBlock(block))
        if block.input_layernorm.weight.device.type == "cpu":
            # The stacked layers' own weights lay in the heap, where the next block's larger ones do not fit.
            trim_heap()
    return len(found)


def _is_plain(block: Any) -> bool:
    """Whether all of the block's layers are ordinary ones with one precision, adapters without dropout or DoRA, and SiLU."""
    attention, mlp = block.self_attn, block.mlp
    layers = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
    layers += [mlp.gate_proj, mlp.up_proj, mlp.down_proj]
    linears = [layer.wrapped if isinstance(layer, LoraLayer) else layer for layer in layers]
    if any(type(linear) is not nn.Linear for linear in linears):
        return False
    if linears[3].bias is not None or linears[6].bias is not None:
        return False
    if any(isinstance(layer, LoraLayer) and (layer.dropout or layer.lora_magnitude is not None) for layer in layers):
        return False
    types = {linear.weight.dtype for linear in linears} | {block.input_layernorm.weight.dtype}
    return len(types) == 1 and isinstance(mlp.act_fn, SiLUActivation)
