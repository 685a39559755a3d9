"""What the planner says about the engine, checked against the engine itself: kept bytes exactly, and shared constants."""

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from app.contracts.job import Lora
from app.contracts.options import Dtype
from app.contracts.plan import ModelShape
from app.planner import memory
from app.planner.memory import count_saved_bytes
from app.planner.run_shape import RunShape
from app.planner.shapes import count_adapter_params, find_linears, shape_from_config
from app.training import attention
from app.training.blocks import fuse_blocks
from app.training.lora import attach
from app.training.primitives import takes_attention_kernel

ROWS, LENGTH, RANK = 2, 32, 4


def make_model(family: str, layers: int) -> PreTrainedModel:
    if family == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(n_layer=layers, n_embd=48, n_head=4, vocab_size=300, bos_token_id=0, eos_token_id=0, use_cache=False)
        )
    sizes = {
        "num_hidden_layers": layers, "hidden_size": 48, "intermediate_size": 80, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 300, "head_dim": 16,
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**sizes)) if family == "llama" else Qwen3ForCausalLM(Qwen3Config(**sizes))


def kept_bytes(family: str, layers: int, dtype: Dtype) -> tuple[int, ModelShape]:
    """Return the bytes that autograd keeps between forward and backward, frozen weights aside."""
    model = make_model(family, layers)
    model.config._attn_implementation = attention.choose_attention(model.config, "cpu")
    model.to(getattr(torch, dtype))
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    shape = shape_from_config(model.config.to_dict())
    targets = list(find_linears(shape))
    attach(model, Lora(rank=RANK, alpha=8, dropout=0.0, target_modules=targets, fan_in_fan_out=False))
    fuse_blocks(model)
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in parameters:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model.base_model(input_ids=torch.randint(0, 300, (ROWS, LENGTH)), use_cache=False)
    assert output.last_hidden_state.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()), shape


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_the_bytes_kept_of_one_more_block_are_exactly_those_that_the_formula_gives(family: str, dtype: Dtype) -> None:
    more, shape = kept_bytes(family, 3, dtype)
    fewer, _ = kept_bytes(family, 2, dtype)
    adapter = count_adapter_params(shape, RANK, list(find_linears(shape))) // shape.layers
    fused_attention = takes_attention_kernel(torch.empty(0, dtype=torch.bfloat16))
    run = RunShape("cpu", ROWS, LENGTH, dtype, "none", adapter, RANK, checkpointing=False, fused_attention=fused_attention)
    # In 16 bits the adapter's own 16-bit copy is kept for the backward pass as well; fused blocks keep it with their weights.
    casts = 2 * adapter if dtype == "bfloat16" and family == "qwen3" else 0
    expected = count_saved_bytes(shape, run) + casts
    # Statistics of the norms: 4 or 8 bytes a token that depend on the precision.
    assert more - fewer == pytest.approx(expected, abs=64 * ROWS * LENGTH)
    assert more - fewer == pytest.approx(expected, rel=0.02)


def test_planner_and_engine_attend_by_products_up_to_the_same_length() -> None:
    assert memory.PRODUCT_ATTENTION_TOKENS == attention.LONGEST
