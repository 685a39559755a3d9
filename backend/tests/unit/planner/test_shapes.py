"""Shapes from the table and from config.json."""

import pytest

from app.core.errors import Unsupported
from app.planner.shapes import SHAPES, count_adapter_params, count_params, find_shape, select_linears, shape_from_config

GPT2_CONFIG = {
    "model_type": "gpt2", "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024, "n_ctx": 1024, "vocab_size": 50257,
    "n_inner": None,
}  # fmt: skip
QWEN3_CONFIG = {
    "model_type": "qwen3", "hidden_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
    "intermediate_size": 3072, "num_hidden_layers": 28, "vocab_size": 151936, "max_position_embeddings": 40960,
    "tie_word_embeddings": True,
}  # fmt: skip


@pytest.mark.parametrize("model_id", SHAPES)
def test_the_counted_parameters_of_every_known_shape_are_exact(model_id: str) -> None:
    assert count_params(SHAPES[model_id]) == SHAPES[model_id].params


def test_config_json_gives_the_same_shape_as_the_table() -> None:
    assert shape_from_config(GPT2_CONFIG) == SHAPES["gpt2"]
    assert shape_from_config(QWEN3_CONFIG) == SHAPES["Qwen/Qwen3-0.6B"]


def test_the_language_model_of_a_multimodal_config_is_read_from_its_text_part() -> None:
    text = {
        "model_type": "gemma3_text", "hidden_size": 2560, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
        "intermediate_size": 10240, "num_hidden_layers": 34, "vocab_size": 262208, "max_position_embeddings": 131072,
    }  # fmt: skip
    assert shape_from_config({"model_type": "gemma3", "text_config": text}) == SHAPES["google/gemma-3-4b"]


def test_a_part_s_config_leaves_out_what_is_usual_for_its_type() -> None:
    text = {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}
    assert shape_from_config({"model_type": "gemma3", "text_config": text}) == SHAPES["google/gemma-3-4b"]
    with pytest.raises(Unsupported):
        shape_from_config(text)


def test_the_names_of_bloom_and_mpt_for_their_sizes_are_read() -> None:
    bloom = shape_from_config(
        {"model_type": "bloom", "n_embed": 1024, "n_layer": 24, "num_attention_heads": 16, "vocab_size": 250880}
    )
    assert (bloom.hidden, bloom.layers, bloom.heads, bloom.tied) == (1024, 24, 16, True)
    sizes = {"d_model": 4096, "n_layers": 32, "n_heads": 32, "max_seq_len": 4096, "vocab_size": 50432}
    mpt = shape_from_config({"model_type": "mpt"} | sizes)
    assert (mpt.hidden, mpt.layers, mpt.heads, mpt.context) == (4096, 32, 32, 4096)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"n_embd": None}, "hidden_size"),
        ({"n_embd": "768"}, "n_embd"),
        ({"n_embd": -1}, "n_embd"),
        ({"n_layer": 0}, "n_layer"),
        ({"n_head": 1000}, "num_attention_heads"),
        ({"n_head": 7}, "num_attention_heads"),
        ({"num_key_value_heads": 13}, "num_key_value_heads"),
        ({"vocab_size": True}, "vocab_size"),
    ],
)
def test_a_config_without_a_usable_field_is_refused_by_that_field_s_name(change: dict[str, object], field: str) -> None:
    with pytest.raises(Unsupported) as refused:
        shape_from_config(GPT2_CONFIG | change)
    assert refused.value.params == {"field": field}


def test_chat_variants_and_old_full_names_have_the_shape_of_their_base() -> None:
    assert find_shape("HuggingFaceTB/SmolLM2-135M-Instruct") is SHAPES["HuggingFaceTB/SmolLM2-135M"]
    assert find_shape("openai-community/gpt2") is SHAPES["gpt2"]
    assert find_shape("google/gemma-3-1b-it") is SHAPES["google/gemma-3-1b"]
    assert find_shape("meta-llama/Llama-2-7b-chat-hf") is SHAPES["meta-llama/Llama-2-7b-hf"]
    assert find_shape("someone/gpt2") is None


def test_gpt2_s_c_proj_names_two_layers_and_adapters_are_counted_for_both() -> None:
    gpt2 = SHAPES["gpt2"]
    assert [(linear.inputs, linear.outputs) for linear in select_linears(gpt2, ["c_proj"])] == [(768, 768), (3072, 768)]
    assert count_adapter_params(gpt2, 16, ["c_attn", "c_proj", "c_fc"]) == 12 * 16 * (
        768 + 2304 + 768 + 768 + 768 + 3072 + 3072 + 768
    )


def test_smollm2_with_rank_16_on_all_layers_trains_the_number_that_was_measured() -> None:
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    assert count_adapter_params(SHAPES["HuggingFaceTB/SmolLM2-135M"], 16, targets) == pytest.approx(4.88e6, rel=0.002)
