"""Sizes of decoder-only transformers: a table of known models, a reader of config.json, and what follows from a shape.

Parameter counts in the table are exact: the models were instantiated without weights (transformers 5.23, device `meta`).
`count_params` derives the same numbers from the shape; a test compares the two for every row.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from app.contracts.plan import ModelShape
from app.core.errors import Unsupported

Family = Literal["gpt2", "llama", "qwen2", "qwen3", "mistral", "gemma3", "phi", "other"]

FAMILIES: dict[str, Family] = {
    "gpt2": "gpt2",
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "mistral": "mistral",
    "gemma3": "gemma3",
    "gemma3_text": "gemma3",
    "phi": "phi",
}
"""`model_type` in config.json -> the family whose formulas apply; anything else is `other`, planned like a Llama."""


@dataclass(frozen=True, slots=True)
class Linear:
    """The linear layers of one block that share a name: sizes of the matrices."""

    inputs: int
    outputs: int

    @property
    def weights(self) -> int:
        """Entries of the matrix."""
        return self.inputs * self.outputs


def _known(  # noqa: PLR0917  a row of the table below, in its column order
    family: Family, params: int, layers: int, hidden: int, heads: tuple[int, int, int],
    intermediate: int, vocab: int, context: int, *, tied: bool = True,
) -> ModelShape:  # fmt: skip
    return ModelShape(
        family=family, params=params, layers=layers, hidden=hidden, intermediate=intermediate, heads=heads[0],
        kv_heads=heads[1], head_dim=heads[2], vocab=vocab, context=context, tied=tied,
    )  # fmt: skip


# model id -> family, parameters, layers, hidden, (heads, kv heads, head size), intermediate, vocabulary, context.
# Sources: GPT2Config and the hub's config.json for GPT-2; litgpt `config.py` (2026-06-29) for Llama, Qwen, Mistral, Gemma,
# Phi and TinyLlama; config.json for SmolLM2; parameters counted as said above (shared/research/planner.md, section 5).
# Gemma 3 4B: the text part; the vision tower (0.42e9 parameters more) is loaded but neither trained nor run.
# fmt: off
SHAPES: dict[str, ModelShape] = {
    "distilgpt2": _known("gpt2", 81_912_576, 6, 768, (12, 12, 64), 3072, 50257, 1024),
    "gpt2": _known("gpt2", 124_439_808, 12, 768, (12, 12, 64), 3072, 50257, 1024),
    "gpt2-medium": _known("gpt2", 354_823_168, 24, 1024, (16, 16, 64), 4096, 50257, 1024),
    "gpt2-large": _known("gpt2", 774_030_080, 36, 1280, (20, 20, 64), 5120, 50257, 1024),
    "gpt2-xl": _known("gpt2", 1_557_611_200, 48, 1600, (25, 25, 64), 6400, 50257, 1024),
    "HuggingFaceTB/SmolLM2-135M": _known("llama", 134_515_008, 30, 576, (9, 3, 64), 1536, 49152, 8192),
    "HuggingFaceTB/SmolLM2-360M": _known("llama", 361_821_120, 32, 960, (15, 5, 64), 2560, 49152, 8192),
    "HuggingFaceTB/SmolLM2-1.7B": _known("llama", 1_711_376_384, 24, 2048, (32, 32, 64), 8192, 49152, 8192),
    "Qwen/Qwen2.5-0.5B": _known("qwen2", 494_032_768, 24, 896, (14, 2, 64), 4864, 151936, 32768),
    "Qwen/Qwen2.5-1.5B": _known("qwen2", 1_543_714_304, 28, 1536, (12, 2, 128), 8960, 151936, 32768),
    "Qwen/Qwen2.5-3B": _known("qwen2", 3_085_938_688, 36, 2048, (16, 2, 128), 11008, 151936, 32768),
    "Qwen/Qwen2.5-7B": _known("qwen2", 7_615_616_512, 28, 3584, (28, 4, 128), 18944, 152064, 32768, tied=False),
    "Qwen/Qwen3-0.6B": _known("qwen3", 596_049_920, 28, 1024, (16, 8, 128), 3072, 151936, 40960),
    "Qwen/Qwen3-1.7B": _known("qwen3", 1_720_574_976, 28, 2048, (16, 8, 128), 6144, 151936, 40960),
    "Qwen/Qwen3-4B": _known("qwen3", 4_022_468_096, 36, 2560, (32, 8, 128), 9728, 151936, 40960),
    "Qwen/Qwen3-8B": _known("qwen3", 8_190_735_360, 36, 4096, (32, 8, 128), 12288, 151936, 40960, tied=False),
    "meta-llama/Llama-3.2-1B": _known("llama", 1_235_814_400, 16, 2048, (32, 8, 64), 8192, 128256, 131072),
    "meta-llama/Llama-3.2-3B": _known("llama", 3_212_749_824, 28, 3072, (24, 8, 128), 8192, 128256, 131072),
    "meta-llama/Llama-2-7b-hf": _known("llama", 6_738_415_616, 32, 4096, (32, 32, 128), 11008, 32000, 4096, tied=False),
    "meta-llama/Llama-3.1-8B": _known("llama", 8_030_261_248, 32, 4096, (32, 8, 128), 14336, 128256, 131072, tied=False),
    "mistralai/Mistral-7B-v0.3": _known("mistral", 7_248_023_552, 32, 4096, (32, 8, 128), 14336, 32768, 32768, tied=False),
    "google/gemma-3-270m": _known("gemma3", 268_098_176, 18, 640, (4, 1, 256), 2048, 262144, 32768),
    "google/gemma-3-1b": _known("gemma3", 999_885_952, 26, 1152, (4, 1, 256), 6912, 262144, 32768),
    "google/gemma-3-4b": _known("gemma3", 3_880_263_168, 34, 2560, (8, 4, 256), 10240, 262208, 131072),
    "microsoft/phi-2": _known("phi", 2_779_683_840, 32, 2560, (32, 32, 80), 10240, 51200, 2048, tied=False),
    "TinyLlama/TinyLlama-1.1B": _known("llama", 1_100_048_384, 22, 2048, (32, 4, 64), 5632, 32000, 2048, tied=False),
}
# fmt: on

VARIANTS = ("-Instruct", "-Chat-v1.0", "-chat-hf", "-it", "-pt", "-Base")
"""Endings under which a publisher releases the same shape again, tuned otherwise."""


def find_shape(model_id: str) -> ModelShape | None:
    """Return the shape of a model of the table, also when asked for its chat variant or by its old full name."""
    name = name_shape(model_id)
    return SHAPES[name] if name else None


def name_shape(model_id: str) -> str | None:
    """Return the name under which the table holds a model or the one that it is a variant of, or None."""
    name = model_id.removeprefix("openai-community/").removeprefix("distilbert/")
    candidates = [name]
    candidates += [name.removesuffix(ending) for ending in VARIANTS if name.endswith(ending)]
    candidates.append(f"{name.removesuffix('-chat-hf')}-hf")
    return next((candidate for candidate in candidates if candidate in SHAPES), None)


@lru_cache(maxsize=256)
def find_linears(shape: ModelShape) -> dict[str, list[Linear]]:
    """Return the linear layers of one block by the last part of their name (GPT-2's `c_proj` names two)."""
    hidden, inner = shape.hidden, shape.intermediate
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    if shape.family == "gpt2":
        return {
            "c_attn": [Linear(hidden, 3 * hidden)],
            "c_proj": [Linear(hidden, hidden), Linear(inner, hidden)],
            "c_fc": [Linear(hidden, inner)],
        }
    attention = {"q_proj": [Linear(hidden, queries)], "k_proj": [Linear(hidden, keys)], "v_proj": [Linear(hidden, keys)]}
    if shape.family == "phi":
        return attention | {
            "dense": [Linear(queries, hidden)],
            "fc1": [Linear(hidden, inner)],
            "fc2": [Linear(inner, hidden)],
        }
    return attention | {
        "o_proj": [Linear(queries, hidden)],
        "gate_proj": [Linear(hidden, inner)],
        "up_proj": [Linear(hidden, inner)],
        "down_proj": [Linear(inner, hidden)],
    }


def select_linears(shape: ModelShape, target_modules: list[str]) -> list[Linear]:
    """Return the layers of one block that get an adapter. A target may be a longer path ending in a known name."""
    linears = find_linears(shape)
    wanted = {target.rsplit(".", 1)[-1] for target in target_modules}
    if wanted == {"all-linear"} or (shape.family == "other" and not wanted <= set(linears)):
        # Of an unknown architecture only the sizes are known: fused or differently named layers hold as many weights.
        wanted = set(linears)
    chosen: list[Linear] = []
    for name, layers in linears.items():
        if name in wanted:
            chosen.extend(layers)
        elif shape.family == "gpt2" and name == "c_proj":
            # `attn.c_proj` and `mlp.c_proj` can be told apart only by their whole path.
            chosen += [layers[0]] * ("attn.c_proj" in target_modules) + [layers[1]] * ("mlp.c_proj" in target_modules)
    return chosen


@lru_cache(maxsize=256)
def count_block_weights(shape: ModelShape) -> int:
    """Return the entries of all linear matrices of one block: what 4-bit quantisation applies to."""
    return sum(linear.weights for layers in find_linears(shape).values() for linear in layers)


def count_adapter_params(shape: ModelShape, rank: int, target_modules: list[str], *, dora: bool = False) -> int:
    """Return the trainable parameters: rank x (inputs + outputs) for each adapted layer (arXiv 2106.09685).

    DoRA adds a length for each output.
    """
    linears = select_linears(shape, target_modules)
    return shape.layers * sum(rank * (linear.inputs + linear.outputs) + dora * linear.outputs for linear in linears)


def count_params(shape: ModelShape) -> int:
    """Return the parameters that the sizes imply: embeddings, blocks with biases and norms, final norm, head."""
    hidden, inner, vocab = shape.hidden, shape.intermediate, shape.vocab
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    block = count_block_weights(shape)
    outside = vocab * hidden * (1 if shape.tied else 2)
    match shape.family:
        case "gpt2":
            block += 3 * hidden + hidden + inner + hidden + 4 * hidden
            outside += shape.context * hidden + 2 * hidden
        case "phi":
            block += queries + 2 * keys + hidden + inner + hidden + 2 * hidden
            outside += 2 * hidden + (0 if shape.tied else vocab)
        case "qwen2":
            block += queries + 2 * keys + 2 * hidden
            outside += hidden
        case "qwen3":
            block += 2 * shape.head_dim + 2 * hidden
            outside += hidden
        case "gemma3":
            block += 2 * shape.head_dim + 4 * hidden
            outside += hidden
        case _:
            block += 2 * hidden
            outside += hidden
    return shape.layers * block + outside


def _read_size(config: dict[str, Any], *names: str, default: int | None = None) -> int:
    """Return the first field among `names`. Raise Unsupported for a missing or senseless one."""
    for name in names:
        value = config.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 10**9:
            raise Unsupported("model_config", field=name)
        return value
    if default is None:
        raise Unsupported("model_config", field=names[0])
    return default


TIED_BY_DEFAULT = frozenset(
    (
        "gpt2", "gemma", "gemma2", "gemma3", "gemma3_text", "falcon", "bloom", "opt", "gpt_neo", "mpt", "starcoder2", "cohere",
        "cohere2",
    )
)  # fmt: skip
"""Types whose head shares the embedding unless config.json says otherwise (their configuration classes, transformers 5.23)."""
PART_DEFAULTS: dict[str, dict[str, int]] = {
    "gemma3_text": {
        "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8,
        "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208, "max_position_embeddings": 131072,
    },
}  # fmt: skip
"""What a part of a larger model leaves out of its config.json: there only what differs from its type's defaults is written
(Gemma3TextConfig, transformers 5.23)."""


def shape_from_config(config: dict[str, Any]) -> ModelShape:
    """Return the shape that a config.json describes. Raise Unsupported naming the field that is missing or wrong.

    Models with several parts (Gemma 3 4B) keep the language model under `text_config`.
    """
    text = config.get("text_config")
    if isinstance(text, dict):
        stated = {name: value for name, value in text.items() if value is not None}
        usual = PART_DEFAULTS.get(str(text.get("model_type", "")), {})
        config = {"tie_word_embeddings": config.get("tie_word_embeddings", True)} | usual | stated
    family = FAMILIES.get(str(config.get("model_type", "")), "other")
    hidden = _read_size(config, "hidden_size", "n_embd", "d_model", "n_embed")
    heads = _read_size(config, "num_attention_heads", "n_head", "num_heads", "n_heads")
    uneven = hidden % heads and config.get("head_dim") is None and family not in {"gemma3", "other"}
    if hidden < heads or uneven:
        raise Unsupported("model_config", field="num_attention_heads")
    kv_heads = _read_size(config, "num_key_value_heads", "num_kv_heads", default=heads)
    if kv_heads > heads:
        raise Unsupported("model_config", field="num_key_value_heads")
    inner_default = 4 * hidden if family in {"gpt2", "other"} else None
    sizes = ModelShape(
        family=family,
        params=1,
        layers=_read_size(config, "num_hidden_layers", "n_layer", "num_layers", "n_layers"),
        hidden=hidden,
        intermediate=_read_size(config, "intermediate_size", "n_inner", "ffn_dim", "d_ff", default=inner_default),
        heads=heads,
        kv_heads=kv_heads,
        # Qwen 3 and Gemma 3 state a head size that is not hidden / heads.
        head_dim=_read_size(config, "head_dim", default=hidden // heads),
        vocab=_read_size(config, "vocab_size"),
        context=_read_size(config, "max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length", default=2048),
        tied=bool(config.get("tie_word_embeddings", config.get("model_type") in TIED_BY_DEFAULT)),
    )
    return sizes.model_copy(update={"params": count_params(sizes)})
