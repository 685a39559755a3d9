"""The step without weights: what the planner traces."""

import pytest
import torch
from transformers import AutoConfig, GPT2Config, LlamaConfig, MistralConfig, PhiConfig, PreTrainedConfig, Qwen2Config, Qwen3Config

from app.contracts.hardware import DeviceKind
from app.contracts.job import Lora
from app.training.assembly import add_gradient, assemble, build_unloaded, finish_gradient, update
from app.training.batching import MicroBatch

SIZES = {
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
}
CONFIGS: list[PreTrainedConfig] = [
    GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=300),
    *(kind(**SIZES) for kind in (LlamaConfig, MistralConfig, PhiConfig, Qwen2Config, Qwen3Config)),
]


def lora_of(config: PreTrainedConfig) -> Lora:
    targets = ["c_attn"] if config.model_type == "gpt2" else ["q_proj", "v_proj"]
    return Lora(rank=4, alpha=8, dropout=0.0, target_modules=targets, fan_in_fan_out=False)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["cpu", "cuda"])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_a_step_needs_sizes_only(config: PreTrainedConfig, kind: DeviceKind, checkpointing: bool) -> None:
    """On `meta` any look at a value raises."""
    meta = torch.device("meta")
    model = build_unloaded(config, device=meta, kind=kind, dtype="bfloat16", checkpointing=checkpointing)
    trainable = assemble(model, lora_of(config), kind=kind)
    for length in (40, 600):
        batch = MicroBatch(
            ids=torch.empty(2, length, dtype=torch.long, device=meta),
            positions=torch.empty(30, dtype=torch.long, device=meta),
            targets=torch.empty(30, dtype=torch.long, device=meta),
            tokens=2 * length,
        )
        add_gradient(trainable.head, batch)
    assert trainable.head.chunk_rows
    assert all(parameter.grad is not None for parameter in trainable.parameters)
    assert finish_gradient(trainable.parameters, 30, 1.0).shape == ()
    update(trainable.optimizer, 1e-3)
    moments = [value for state in trainable.optimizer.state.values() for value in state.values()]
    assert len(moments) == 3 * len(trainable.parameters)
    assert all(parameter.grad is None for parameter in trainable.parameters)


def test_a_model_built_from_its_configuration_computes_like_one_that_was_loaded(llama: object) -> None:
    config = AutoConfig.from_pretrained(llama)
    model = build_unloaded(config, device=torch.device("cpu"), kind="cpu", dtype="float32", checkpointing=False)
    assert model.training
    assert model.config._attn_implementation == "affinage_products"
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
