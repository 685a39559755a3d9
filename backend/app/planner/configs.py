"""A config.json that transformers understands, from the sizes of a known model: it can be traced before its files are here."""

from typing import Any

from app.contracts.plan import ModelShape

GEMMA_WINDOWS = {26: 512, 18: 512, 34: 1024}
"""Layers of Gemma 3 -> its sliding window in tokens (config.json of the 1B, 270M and 4B)."""


def write_shape_config(shape: ModelShape) -> dict[str, Any]:
    """Return config.json of a model with these sizes; what it leaves out is the family's own default in transformers."""
    if shape.family == "gpt2":
        return {
            "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": shape.hidden, "n_layer": shape.layers,
            "n_head": shape.heads, "n_positions": shape.context, "n_inner": shape.intermediate, "vocab_size": shape.vocab,
            "tie_word_embeddings": shape.tied,
        }  # fmt: skip
    config: dict[str, Any] = {
        "model_type": _TYPES[shape.family],
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": shape.context,
        "vocab_size": shape.vocab,
        "tie_word_embeddings": shape.tied,
    }
    if shape.family != "phi":
        config["head_dim"] = shape.head_dim
    if shape.family == "mistral":
        config["sliding_window"] = None
    if shape.family == "gemma3":
        config["sliding_window"] = GEMMA_WINDOWS.get(shape.layers, 1024)
    return config


_TYPES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "mistral": "mistral",
    "gemma3": "gemma3_text",
    "phi": "phi",
    "other": "llama",
}
