"""The linear layers of an architecture, as LoRA targets."""

import json
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from app.contracts.job import Lora
from app.core.errors import AffinageError, Unsupported
from app.planner.trace.engine_step import read_config
from app.planner.trace.linears import check_blocks, list_targets
from app.services.model_rules import LAYERS_BY_TYPE, LIKE_LLAMA, find_layers
from app.training.lora import LoraLayer, attach

SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 200, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GPT: dict[str, Any] = {"n_embd": 64, "n_layer": 3, "n_head": 4, "vocab_size": 200, "bos_token_id": 1, "eos_token_id": 2}
OTHERS: dict[str, dict[str, Any]] = {
    "gpt2": GPT,
    "gpt_neo": {"hidden_size": 64, "num_layers": 3, "num_heads": 4, "attention_types": [[["global"], 3]], "vocab_size": 200},
    "opt": SIZES | {"ffn_dim": 128, "word_embed_proj_dim": 64},
    "bloom": {"hidden_size": 64, "n_layer": 3, "n_head": 4, "vocab_size": 200},
}


def config_of(model_type: str) -> str:
    return json.dumps({"model_type": model_type} | OTHERS.get(model_type, SIZES))


@pytest.mark.parametrize("model_type", sorted((LIKE_LLAMA | set(LAYERS_BY_TYPE)) - {"gemma3"}))
def test_the_rule_for_a_known_type_names_what_its_architecture_has(model_type: str) -> None:
    """Gemma 3 with pictures is left out: its rule names the layers of the part that reads pictures as well."""
    assert set(find_layers(model_type) or ()) == set(list_targets(config_of(model_type)).names)


@pytest.mark.parametrize(
    ("model_type", "config", "names"),
    [
        ("gptj", GPT | {"rotary_dim": 8}, {"q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_out"}),
        ("mpt", {"d_model": 64, "n_heads": 4, "n_layers": 3, "vocab_size": 200}, {"Wqkv", "out_proj", "up_proj", "down_proj"}),
        ("glm", SIZES | {"head_dim": 16}, {"q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj"}),
        ("nemotron", SIZES, {"q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"}),
        ("mixtral", SIZES | {"num_local_experts": 4}, {"q_proj", "k_proj", "v_proj", "o_proj"}),
    ],
)
def test_a_type_without_a_rule_is_asked_itself(model_type: str, config: dict[str, Any], names: set[str]) -> None:
    assert find_layers(model_type) is None
    assert set(list_targets(json.dumps({"model_type": model_type} | config)).names) == names


def test_the_engine_can_put_an_adapter_on_every_layer_that_is_named_and_on_no_other() -> None:
    sizes = GPT | {"rotary_dim": 8}
    names = list_targets(json.dumps({"model_type": "gptj"} | sizes)).names
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("gptj", **sizes))
    linear = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    attach(model, Lora(rank=2, alpha=2, dropout=0.0, target_modules=names, fan_in_fan_out=False))
    adapted = {name for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    assert adapted == linear - {"lm_head"}


def test_where_a_short_name_would_match_another_part_of_the_model_longer_ones_are_given() -> None:
    config = {"model_type": "gemma3", "text_config": SIZES | {"model_type": "gemma3_text", "head_dim": 16}}
    names = list_targets(json.dumps(config)).names
    assert {"o_proj", "gate_proj", "up_proj", "down_proj"} < set(names)
    assert "q_proj" not in names and "model.language_model.layers.2.self_attn.q_proj" in names


def llama_like(hidden: int, inner: int, layers: int, heads: int, keys: int, vocab: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": keys, "vocab_size": vocab,
    } | more  # fmt: skip


# Sizes as published with each model; parameters as its files hold them.
PUBLISHED: dict[str, tuple[int, dict[str, Any]]] = {
    "mixtral": (46_702_792_704, llama_like(4096, 14336, 32, 32, 8, 32000)),
    "gpt_oss": (20_914_757_184, llama_like(2880, 2880, 24, 64, 8, 201088, head_dim=64, num_local_experts=32)),
    "gemma2": (2_614_341_888, llama_like(2304, 9216, 26, 8, 4, 256000, head_dim=256)),
    "stablelm": (1_644_515_328, llama_like(2048, 5632, 24, 32, 32, 100352, use_qkv_bias=True)),
    "falcon": (
        6_921_720_704,
        {"hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71, "vocab_size": 65024, "multi_query": True},
    ),
    "opt": (
        331_196_416,
        {
            "hidden_size": 1024, "ffn_dim": 4096, "num_hidden_layers": 24, "num_attention_heads": 16, "vocab_size": 50272,
            "word_embed_proj_dim": 512, "do_layer_norm_before": False,
        },
    ),
    "bloom": (559_214_592, {"hidden_size": 1024, "n_layer": 24, "n_head": 16, "vocab_size": 250880}),
    "gpt_neox": (1_011_781_632, SIZES | {
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 8, "vocab_size": 50304,
    }),
}  # fmt: skip


@pytest.mark.parametrize("model_type", PUBLISHED)
def test_the_architecture_counts_the_parameters_that_were_published(model_type: str) -> None:
    params, sizes = PUBLISHED[model_type]
    held = list_targets(json.dumps({"model_type": model_type} | sizes))
    assert held.params == params
    assert 0 < held.matrix_weights < params


@pytest.mark.parametrize("model_type", ["bert", "t5", "clip", "llava", "bart", "whisper"])
def test_a_type_that_does_not_continue_text_is_refused_without_its_architecture_s_name(model_type: str) -> None:
    with pytest.raises(Unsupported) as refused:
        list_targets(json.dumps({"model_type": model_type}))
    assert refused.value.key == "unsupported.not_a_decoder"


@pytest.mark.parametrize(
    ("model_type", "sizes"),
    [
        ("qwen3_moe", {"num_experts": 4, "moe_intermediate_size": 32, "decoder_sparse_step": 2, "num_hidden_layers": 6}),
        ("deepseek_v3", {"n_routed_experts": 8, "moe_intermediate_size": 32, "first_k_dense_replace": 3, "num_hidden_layers": 6}),
    ],
)
def test_a_few_blocks_do_not_stand_for_blocks_that_differ(model_type: str, sizes: dict[str, Any]) -> None:
    with pytest.raises(Unsupported) as refused:
        check_blocks(read_config(json.dumps({"model_type": model_type} | SIZES | sizes)))
    assert refused.value.key == "unsupported.uneven_blocks"
    check_blocks(read_config(config_of("mixtral")))


def test_a_model_that_transformers_does_not_know_is_refused() -> None:
    with pytest.raises(AffinageError):
        list_targets(json.dumps(SIZES | {"model_type": "of_my_own"}))
