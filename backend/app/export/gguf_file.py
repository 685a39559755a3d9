"""Write a GGUF file: F16, Q8_0 or Q4_0, tensor by tensor, with tokenizer and template inside.

Vectors and position tables stay in 32 bits. In Q4_0 the embedding and the output head are Q8_0: they are a large share of a
small model, and every token passes through them. K-quants need llama.cpp's own program.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType
from gguf.quants import quant_shape_to_byte_shape, quantize
from transformers import AutoConfig

from app.datasets.tokenizer_files import load_tokenizer_files
from app.export import k_quants
from app.export.architectures import TensorNames, get_architecture, layer_count, prepare, rotary_factors
from app.export.gguf_vocabulary import add_vocabulary
from app.export.merging import MergedWeights

Precision = Literal["f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0"]
_KINDS = {
    "f16": GGMLQuantizationType.F16,
    "q8_0": GGMLQuantizationType.Q8_0,
    "q6_k": GGMLQuantizationType.Q6_K,
    "q5_k_m": GGMLQuantizationType.Q5_K,
    "q4_k_m": GGMLQuantizationType.Q4_K,
    "q4_0": GGMLQuantizationType.Q4_0,
}
_FILE_TYPES = {
    "f16": LlamaFileType.MOSTLY_F16,
    "q8_0": LlamaFileType.MOSTLY_Q8_0,
    "q6_k": LlamaFileType.MOSTLY_Q6_K,
    "q5_k_m": LlamaFileType.MOSTLY_Q5_K_M,
    "q4_k_m": LlamaFileType.MOSTLY_Q4_K_M,
    "q4_0": LlamaFileType.MOSTLY_Q4_0,
}
_BLOCK = 32
"""Weights that share a scale in Q8_0 and Q4_0."""
_GREATEST_F16 = 65504.0


def write_gguf(
    base: Path,
    adapter: Path,
    file: Path,
    precision: Precision,
    *,
    name: str,
    licence: str = "",
    on_tensor: Callable[[], None] = lambda: None,
) -> None:
    """Write base and adapter as one file. Raise Unsupported for a shape or tokenizer that llama.cpp does not have here."""
    config = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    architecture = get_architecture(config)
    names = TensorNames(architecture, config)
    weights = MergedWeights(base, adapter)
    chosen = {source: found for source in weights.names if (found := names.find(source)) is not None}
    if getattr(config, "tie_word_embeddings", False):
        chosen = {source: found for source, found in chosen.items() if found != "output.weight"}
    embedding = next(source for source, found in chosen.items() if found == "token_embd.weight")

    writer = GGUFWriter(file, architecture.name)
    writer.add_type("model")
    writer.add_name(name)
    if licence:
        writer.add_license(licence)
    writer.add_file_type(_FILE_TYPES[precision])
    writer.add_quantization_version(2)  # GGML_QNT_VERSION in ggml.h
    architecture.describe(writer, config)
    writer.add_vocab_size(weights.shape(embedding)[0])
    add_vocabulary(writer, load_tokenizer_files(base), weights.shape(embedding)[0])
    factors = rotary_factors(config)
    kinds: dict[str, GGMLQuantizationType] = {}
    for source, found in chosen.items():
        shape = weights.shape(source)
        if architecture.transposed and len(shape) == 2 and found.startswith("blk."):
            shape = shape[::-1]
        kinds[source] = _kind(found, shape, precision, layers=layer_count(config), tied="output.weight" not in chosen.values())
        _announce(writer, found, shape, kinds[source])
    if factors is not None:
        _announce(writer, "rope_freqs.weight", factors.shape, GGMLQuantizationType.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for source, found in chosen.items():
        on_tensor()
        array = prepare(architecture, config, found, weights.read(source).float().numpy())
        if kinds[source] is GGMLQuantizationType.F16:
            array = np.clip(array, -_GREATEST_F16, _GREATEST_F16)
        packed = k_quants.pack(array, kinds[source]) if kinds[source] in k_quants.KINDS else quantize(array, kinds[source])
        writer.write_tensor_data(packed)
    if factors is not None:
        writer.write_tensor_data(factors)
    writer.close()


def _kind(name: str, shape: tuple[int, ...], precision: Precision, *, layers: int, tied: bool) -> GGMLQuantizationType:
    """Return the type of one tensor."""
    if len(shape) < 2 or name.startswith("position_embd"):
        return GGMLQuantizationType.F32
    if precision != "f16" and shape[-1] % _BLOCK:
        return GGMLQuantizationType.F16
    if precision == "q4_0" and name in ("token_embd.weight", "output.weight"):
        return GGMLQuantizationType.Q8_0
    usual = _KINDS[precision]
    if usual in k_quants.KINDS:
        return k_quants.fit_kind(k_quants.choose_kind(name, layers, usual, tied=tied), shape[-1])
    return usual


def _announce(writer: GGUFWriter, name: str, shape: tuple[int, ...], kind: GGMLQuantizationType) -> None:
    """Reserve a tensor's place in the file."""
    if kind is GGMLQuantizationType.F32 or kind is GGMLQuantizationType.F16:
        dtype = np.dtype(np.float32 if kind is GGMLQuantizationType.F32 else np.float16)
        writer.add_tensor_info(name, shape, dtype, int(np.prod(shape)) * dtype.itemsize, raw_dtype=kind)
        return
    packed = quant_shape_to_byte_shape(shape, kind)
    writer.add_tensor_info(name, packed, np.dtype(np.uint8), int(np.prod(packed)), raw_dtype=kind)
