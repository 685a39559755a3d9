"""K-quants: 256 weights share a block with its own scales. Packed by llama.cpp's own code, `ggml_quantize_chunk` of ggml.h.

The PyPI package `xllamacpp` holds it; the package `gguf` can read these types and not write them. The recipes are those of
llama.cpp's `llama-quantize` (src/llama-quant.cpp): some layers of the values and of the MLP's output get more bits.
"""

import ctypes
import importlib.util
import re
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from app.contracts.export import LLAMA_CPP_PACKAGE
from app.core.errors import Unsupported

KINDS = frozenset({GGMLQuantizationType.Q4_K, GGMLQuantizationType.Q5_K, GGMLQuantizationType.Q6_K})
BLOCK = 256
"""Weights of one block (QK_K in ggml-common.h)."""
_FALLBACKS = {
    GGMLQuantizationType.Q4_K: GGMLQuantizationType.Q5_0,
    GGMLQuantizationType.Q5_K: GGMLQuantizationType.Q5_1,
    GGMLQuantizationType.Q6_K: GGMLQuantizationType.Q8_0,
}
_LAYER = re.compile(r"blk\.(\d+)\.")


def choose_kind(name: str, layers: int, usual: GGMLQuantizationType, *, tied: bool) -> GGMLQuantizationType:
    """Return the type of a matrix, by llama.cpp's name, in a file whose usual type is `usual`."""
    head = name == "output.weight" or (tied and name == "token_embd.weight")
    if head or (_takes_more(name) and _has_more_bits(_layer(name), layers)):
        return GGMLQuantizationType.Q6_K
    return usual


def fit_kind(kind: GGMLQuantizationType, width: int) -> GGMLQuantizationType:
    """Return `kind`, or what llama.cpp takes where a row of `width` weights is no multiple of a block."""
    return kind if width % BLOCK == 0 else _FALLBACKS[kind]


def pack(array: npt.NDArray[np.float32], kind: GGMLQuantizationType) -> npt.NDArray[np.uint8]:
    """Return a matrix (rows, width) packed, (rows, bytes of a row). Raise Unsupported (`k_quants`) without llama.cpp."""
    rows, width = array.shape
    block, block_bytes = GGML_QUANT_SIZES[kind]
    source = np.ascontiguousarray(array, np.float32)
    packed = np.empty((rows, width // block * block_bytes), np.uint8)
    written = _library().ggml_quantize_chunk(int(kind), source.ctypes.data, packed.ctypes.data, 0, rows, width, None)
    if written != packed.nbytes:
        raise RuntimeError(f"ggml_quantize_chunk wrote {written} bytes instead of {packed.nbytes}")
    return packed


@cache
def _library() -> ctypes.CDLL:
    found = importlib.util.find_spec(LLAMA_CPP_PACKAGE)
    folders = found.submodule_search_locations if found is not None else None
    files = [file for folder in folders or [] for file in sorted(Path(folder).glob(f"{LLAMA_CPP_PACKAGE}*.so"))]
    if not files:
        raise Unsupported("k_quants")
    library = ctypes.CDLL(str(files[0]))
    try:
        function = library.ggml_quantize_chunk
    except AttributeError:
        raise Unsupported("k_quants") from None
    function.restype = ctypes.c_size_t
    function.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    return library


def _takes_more(name: str) -> bool:
    return ".attn_v." in name or ".ffn_down." in name


def _layer(name: str) -> int:
    match = _LAYER.match(name)
    return int(match[1]) if match else 0


def _has_more_bits(layer: int, layers: int) -> bool:
    """llama-quant.cpp, use_more_bits: the first and the last eighth of the layers, and every third between them."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
