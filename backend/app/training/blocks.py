"""Replace decoder blocks of the Llama kind and of GPT-2 by ones that compute the same with the functions of fused.py."""

from typing import Any

from torch import Tensor, nn
from transformers.activations import GELUTanh, NewGELUActivation, SiLUActivation
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.gpt2.modeling_gpt2 import GPT2Block
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from transformers.models.mistral.modeling_mistral import MistralDecoderLayer
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer
from transformers.pytorch_utils import Conv1D

from app.training.attention import NAME, attend
from app.training.batching import Layout
from app.training.fused import Activation, AddedHeads, Heads, Mlp, Norm, NormedProducts
from app.training.lora import LoraLayer
from app.training.memory import trim_heap
from app.training.stacked import Narrowing, Widening

_LLAMA = (LlamaDecoderLayer, MistralDecoderLayer, Qwen2DecoderLayer)
"""RMS norm, rotary attention, residual, RMS norm, gated MLP, residual; nothing else."""


class FusedBlock(GradientCheckpointingLayer):  # type: ignore[misc]
    """A block in training: takes and returns (rows, length, H), or (1, tokens, H) with the layout of packed rows.

    It has no cache, so it cannot generate.
    """

    activation: Activation
    scaling: float
    counts: tuple[int, int, int]
    """Heads of queries, heads of keys, width."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        # The same children by the same names: adapters are found by them.
        for name, child in block.named_children():
            self.add_module(name, child)
        self.gradient_checkpointing = block.gradient_checkpointing
        if block.gradient_checkpointing:
            self._gradient_checkpointing_func = block._gradient_checkpointing_func
        if isinstance(block, GPT2Block):
            self._take_gpt2(block)
        else:
            self._take_llama(block)
        self.train(block.training)

    def _take_llama(self, block: Any) -> None:
        attention, mlp = block.self_attn, block.mlp
        self.norms = [
            Norm(norm.weight.detach(), None, norm.variance_epsilon)
            for norm in (block.input_layernorm, block.post_attention_layernorm)
        ]
        self.qkv = Widening([attention.q_proj, attention.k_proj, attention.v_proj])
        self.out = Narrowing(attention.o_proj)
        self.up, self.down = Widening([mlp.gate_proj, mlp.up_proj]), Narrowing(mlp.down_proj)
        width = attention.head_dim
        self.counts = (self.qkv.sizes[0] // width, self.qkv.sizes[1] // width, width)
        self.scaling, self.activation = attention.scaling, "gated"

    def _take_gpt2(self, block: Any) -> None:
        attention, mlp = block.attn, block.mlp
        self.norms = [Norm(norm.weight.detach(), norm.bias.detach(), norm.eps) for norm in (block.ln_1, block.ln_2)]
        self.qkv, self.out = Widening([attention.c_attn]), Narrowing(attention.c_proj)
        self.up, self.down = Widening([mlp.c_fc]), Narrowing(mlp.c_proj)
        self.counts = (attention.num_heads, attention.num_heads, attention.head_dim)
        self.scaling, self.activation = attention.scaling, "gelu"

    def forward(
        self,
        hidden_states: Tensor,
        *_: Any,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        layout: Layout | None = None,
        **__: Any,
    ) -> Tensor:
        """Return the stream after attention and MLP."""
        rows, length, width = hidden_states.shape
        x = hidden_states.reshape(rows * length, width)
        cos, sin = position_embeddings or (None, None)
        y, x = NormedProducts.apply(x, self.norms[0], self.qkv, *self.qkv.parameters())  # type: ignore[no-untyped-call]
        in_rows = rows if layout is None else layout.rows
        query, key, value = Heads.apply(y, in_rows, self.counts, layout, cos, sin)  # type: ignore[no-untyped-call]
        del y
        heads = attend(query, key, value, self.scaling)
        del query, key, value
        x = AddedHeads.apply(x, heads, layout, self.out, *self.out.parameters())  # type: ignore[no-untyped-call]
        del heads
        parameters = (*self.up.parameters(), *self.down.parameters())
        x = Mlp.apply(x, self.norms[1], self.up, self.activation, self.down, *parameters)  # type: ignore[no-untyped-call]
        out: Tensor = x.view(hidden_states.shape)
        return out


def fuse_blocks(model: nn.Module) -> int:
    """Replace every block that is known and whose attention is ours; return how many. Call it after `attach`."""
    if model.config._attn_implementation != NAME:  # type: ignore[union-attr]
        return 0
    found = [(name, module) for name, module in model.named_modules() if _is_plain(module)]
    for name, block in found:
        parent, _, child = name.rpartition(".")
        fused = FusedBlock(block)
        setattr(model.get_submodule(parent), child, fused)
        if fused.norms[0].weight.device.type == "cpu":
            # The stacked layers' own weights lay in the heap, where the next block's larger ones do not fit.
            trim_heap()
    return len(found)


def _is_plain(block: Any) -> bool:
    """Whether a block is of a known kind, all its layers ordinary ones with one precision, adapters without dropout or DoRA."""
    if type(block) in _LLAMA:
        attention, mlp = block.self_attn, block.mlp
        layers = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
        layers += [mlp.gate_proj, mlp.up_proj, mlp.down_proj]
        active, norm, kind = isinstance(mlp.act_fn, SiLUActivation), block.input_layernorm, nn.Linear
    elif type(block) is GPT2Block and not hasattr(block, "crossattention"):
        layers = [block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj]
        active = isinstance(block.mlp.act, NewGELUActivation | GELUTanh)
        norm, kind = block.ln_1, Conv1D
    else:
        return False
    linears = [layer.wrapped if isinstance(layer, LoraLayer) else layer for layer in layers]
    if any(type(linear) is not kind for linear in linears):
        return False
    if any(isinstance(layer, LoraLayer) and (layer.dropout or layer.lora_magnitude is not None) for layer in layers):
        return False
    return active and len({linear.weight.dtype for linear in linears} | {norm.weight.dtype}) == 1
