"""The model shapes that can be written as GGUF: their metadata, and what llama.cpp wants done to their tensors.

Names of keys and tensors: llama.cpp's own package `gguf`. The reordering of Llama's query and key rows follows from the two
ways of pairing rotary dimensions: transformers pairs i with i + half, llama.cpp's `llama` shape i with i + 1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import MODEL_ARCH, GGUFWriter, TensorNameMap, get_tensor_name_map
from transformers import PretrainedConfig

from app.core.errors import Unsupported

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Architecture:
    """One shape."""

    arch: MODEL_ARCH
    name: str
    """llama.cpp's word for it."""
    describe: Callable[[GGUFWriter, PretrainedConfig], None]
    """Writes its metadata."""
    pairs_rotary: bool = False
    """Whether the rows of queries and keys are reordered."""
    transposed: bool = False
    """Whether linear weights lie (in, out), as in GPT-2's Conv1D."""


def find_architecture(config: PretrainedConfig) -> Architecture | None:
    """Return the shape of a configuration; None where it cannot be written."""
    return ARCHITECTURES.get(config.model_type)


def get_architecture(config: PretrainedConfig) -> Architecture:
    """Return the shape of a configuration. Raise Unsupported (`gguf_shape`, `gguf_rope`) where it cannot be written."""
    found = find_architecture(config)
    if found is None:
        raise Unsupported("gguf_shape", shape=config.model_type, supported=", ".join(sorted(ARCHITECTURES)))
    kind = rope(config).get("rope_type", "default")
    if kind not in ("default", "llama3"):
        raise Unsupported("gguf_rope", kind=kind)
    if getattr(config, "mlp_bias", False):
        raise Unsupported("gguf_shape", shape=f"{config.model_type} + mlp_bias", supported=", ".join(sorted(ARCHITECTURES)))
    return found


def rope(config: PretrainedConfig) -> dict[str, Any]:
    """Return the rotary settings: transformers 5 keeps them in one dictionary."""
    found = getattr(config, "rope_parameters", None) or {}
    return dict(found)


def layer_count(config: PretrainedConfig) -> int:
    """Return the number of blocks."""
    return int(config.n_layer if config.model_type == "gpt2" else config.num_hidden_layers)


class TensorNames:
    """transformers' tensor names as llama.cpp's."""

    def __init__(self, architecture: Architecture, config: PretrainedConfig) -> None:
        self._map: TensorNameMap = get_tensor_name_map(architecture.arch, layer_count(config))
        self._gpt2 = architecture.arch is MODEL_ARCH.GPT2

    def find(self, name: str) -> str | None:
        """Return llama.cpp's name; None for what it does not keep. Raise Unsupported for a tensor that it does not know."""
        if self._gpt2:
            name = name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}"
            if name.endswith((".attn.bias", ".attn.masked_bias")):
                return None  # the causal mask, stored in old files
        if name.endswith(".rotary_emb.inv_freq"):
            return None  # a constant, stored in old files
        found = self._map.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise Unsupported("gguf_tensor", tensor=name)
        return str(found)


def prepare(architecture: Architecture, config: PretrainedConfig, name: str, array: Array) -> Array:
    """Return a tensor, named by llama.cpp, as llama.cpp computes with it."""
    if architecture.transposed and array.ndim == 2 and name.startswith("blk."):
        return np.ascontiguousarray(array.T)
    if architecture.pairs_rotary and ".attn_q." in name:
        return _pair_rotary(array, config.num_attention_heads)
    if architecture.pairs_rotary and ".attn_k." in name:
        return _pair_rotary(array, config.num_key_value_heads)
    return array


def rotary_factors(config: PretrainedConfig) -> Array | None:
    """Return by what Llama 3 divides each rotary frequency, (head_dim / 2,); None for models that do not.

    The formula is that of Llama 3.1: low frequencies are divided by `factor`, high ones stay, between them it goes smoothly.
    """
    settings = rope(config)
    if settings.get("rope_type") != "llama3":
        return None
    size = head_size(config)
    frequencies = 1.0 / settings["rope_theta"] ** (np.arange(0, size, 2, dtype=np.float64) / size)
    lengths = 2 * math.pi / frequencies
    original = settings["original_max_position_embeddings"]
    low, high = settings["low_freq_factor"], settings["high_freq_factor"]
    smooth = np.clip((original / lengths - low) / (high - low), 0.0, 1.0)
    factors: Array = (1.0 / ((1 - smooth) / settings["factor"] + smooth)).astype(np.float32)
    return factors


def head_size(config: PretrainedConfig) -> int:
    """Return the width of one attention head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _pair_rotary(array: Array, heads: int) -> Array:
    halves = array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(array.shape))


def _describe_decoder(writer: GGUFWriter, config: PretrainedConfig) -> None:
    """Llama, Mistral, Qwen 2 and 3, Phi-2: what all of them have."""
    context = config.max_position_embeddings
    writer.add_context_length(min(context, getattr(config, "sliding_window", None) or context))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads or config.num_attention_heads)
    writer.add_rope_freq_base(rope(config).get("rope_theta", 10000.0))


def _describe_llama(writer: GGUFWriter, config: PretrainedConfig) -> None:
    _describe_decoder(writer, config)
    writer.add_rope_dimension_count(head_size(config))
    writer.add_key_length(head_size(config))
    writer.add_value_length(head_size(config))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _describe_phi2(writer: GGUFWriter, config: PretrainedConfig) -> None:
    _describe_decoder(writer, config)
    share = rope(config).get("partial_rotary_factor", getattr(config, "partial_rotary_factor", 0.5))
    writer.add_rope_dimension_count(int(share * head_size(config)))
    writer.add_layer_norm_eps(config.layer_norm_eps)


def _describe_gpt2(writer: GGUFWriter, config: PretrainedConfig) -> None:
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)


ARCHITECTURES: dict[str, Architecture] = {
    "gpt2": Architecture(MODEL_ARCH.GPT2, "gpt2", _describe_gpt2, transposed=True),
    "llama": Architecture(MODEL_ARCH.LLAMA, "llama", _describe_llama, pairs_rotary=True),
    "mistral": Architecture(MODEL_ARCH.LLAMA, "llama", _describe_llama, pairs_rotary=True),
    "qwen2": Architecture(MODEL_ARCH.QWEN2, "qwen2", _describe_llama),
    "qwen3": Architecture(MODEL_ARCH.QWEN3, "qwen3", _describe_llama),
    "phi": Architecture(MODEL_ARCH.PHI2, "phi2", _describe_phi2),
}
"""By transformers' `model_type`."""
