"""A model of the Llama kind whose steps are one call of compiled code: native/answering.c. For answers, not for training.

It computes with the weights where transformers keeps them and holds nothing twice. Tokens of many answers go through in one
step, each with its own place, its own cache and its own adapter; an answer is the same, bit for bit, in any company.
"""

import ctypes
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import SiLUActivation
from transformers.models.llama.modeling_llama import LlamaForCausalLM
from transformers.models.mistral.modeling_mistral import MistralForCausalLM
from transformers.models.qwen2.modeling_qwen2 import Qwen2ForCausalLM
from transformers.models.qwen3.modeling_qwen3 import Qwen3ForCausalLM

from app.training.lora import LoraLayer
from app.training.native.build import load_library

_KINDS = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)
_FIXED_TURNS = frozenset({"default", "linear", "llama3", "yarn"})
"""Rotary positions that do not depend on the length of the answer."""
LANES = 16
"""Tokens in a tile."""
RANKS = 32
"""The rows of all adapters of a step are filled up to a multiple of this."""
PLACES = 32
"""Places of an answer that are kept together."""
MOST_GROUPS, WIDEST_HEAD = 16, 256
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")


class _Linear(ctypes.Structure):
    _fields_ = (*((name, ctypes.c_void_p) for name in ("weight", "bias", "a", "b")), ("outputs", ctypes.c_int64))


class _Block(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("norm", "query_norm", "key_norm", "mlp_norm")),
        ("inputs", _Linear * 3),
        ("out", _Linear),
        ("up", _Linear * 2),
        ("down", _Linear),
    )


class _Model(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("blocks", "hidden", "heads", "key_heads", "width", "inner", "words")),
        ("eps", ctypes.c_float),
        ("scale", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("embeddings", "norm", "head", "block")),
    )


class _Step(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("tokens", "wanted", "rank", "threads")),
        *((name, ctypes.c_void_p) for name in ("ids", "places", "rooms", "caches", "cos", "sin", "own", "asked", "scores")),
    )


@dataclass(frozen=True)
class Stretch:
    """Tokens of one answer that follow each other, in one step; the score after the last of them may be wanted."""

    ids: Sequence[int]
    start: int
    """Place of the first in its answer: so many stand in the cache already."""
    cache: Tensor
    """`CompiledModel.new_cache`; it takes the keys and values of these tokens."""
    ranks: tuple[int, int]
    """First and end of its adapter's rows in the stack; equal without one."""
    wanted: bool = True


class CompiledModel:
    """The model's arrays as compiled code takes them. Not safe to share between threads."""

    def __init__(self, model: Any, library: ctypes.CDLL) -> None:
        self._model, self._library = model, library
        config = model.config
        layers = model.model.layers
        attention = layers[0].self_attn
        self.hidden: int = config.hidden_size
        self.key_heads: int = config.num_key_value_heads
        self.width: int = attention.head_dim
        self.layers: int = len(layers)
        self.words: int = model.lm_head.weight.shape[0]
        self.entries: int = model.model.embed_tokens.weight.shape[0]
        """Tokens that can be read."""
        self.rank = 0
        """Rows of A in the stack of adapters that is set."""
        self._blocks = (_Block * self.layers)(*(_describe(layer) for layer in layers))
        self._described = _Model(
            blocks=self.layers,
            hidden=self.hidden,
            heads=config.num_attention_heads,
            key_heads=self.key_heads,
            width=self.width,
            inner=config.intermediate_size,
            words=self.words,
            eps=layers[0].input_layernorm.variance_epsilon,
            scale=attention.scaling,
            embeddings=model.model.embed_tokens.weight.data_ptr(),
            norm=model.model.norm.weight.data_ptr(),
            head=model.lm_head.weight.data_ptr(),
            block=ctypes.addressof(self._blocks),
        )
        self._stack: list[tuple[Tensor, Tensor]] = []

    def list_linears(self) -> list[tuple[str, int, int]]:
        """Return name, outputs and inputs of each linear layer, in the order of `set_stack`."""
        found = []
        for place, layer in enumerate(self._model.model.layers):
            for part, names in (("self_attn", ATTENTION), ("mlp", MLP)):
                for name in names:
                    weight = _unwrapped(getattr(getattr(layer, part), name)).weight
                    found.append((f"model.layers.{place}.{part}.{name}", weight.shape[0], weight.shape[1]))
        return found

    def set_stack(self, stack: Sequence[tuple[Tensor, Tensor] | None]) -> None:
        """Take A (rank, inputs) and B (outputs, rank) of all adapters for each linear layer, None where none changes it.

        The rank is the same for all, a multiple of RANKS.
        """
        self._stack = [pair for pair in stack if pair is not None]
        self.rank = self._stack[0][0].shape[0] if self._stack else 0
        each = iter(stack)
        for block in self._blocks:
            for linear in (*block.inputs, block.out, *block.up, block.down):
                pair = next(each, None)
                linear.a, linear.b = (None, None) if pair is None else (pair[0].data_ptr(), pair[1].data_ptr())

    def new_cache(self, room: int) -> Tensor:
        """Return room for the keys and values of an answer of so many tokens, (layers, 2, key heads, places, width).

        Every PLACES places are kept together: whole runs of them can be copied, single places cannot.
        """
        return torch.empty(self.layers, 2, self.key_heads, -(-room // PLACES) * PLACES, self.width, dtype=torch.bfloat16)

    def step(self, stretches: Sequence[Stretch]) -> Tensor:
        """Write the stretches' keys and values; return the scores after those that are wanted, (wanted, vocabulary), fp32.

        They are not rounded to bfloat16, as those of the model's own head are: among scores of 25 that leaves steps of 1/8, and
        near ones become equal. Raise MemoryError, IndexError for a token without an embedding or without room: compiled code
        would read or write what is not there.
        """
        counts = [len(stretch.ids) for stretch in stretches]
        tokens = sum(counts)
        lanes = -(-tokens // LANES) * LANES
        repeats = torch.tensor(counts)
        ends = repeats.cumsum(0)
        ids = torch.tensor([token for stretch in stretches for token in stretch.ids])
        starts = torch.tensor([stretch.start for stretch in stretches])
        places = torch.arange(tokens) + (starts - ends + repeats).repeat_interleave(repeats)
        rooms = torch.tensor([stretch.cache.shape[3] for stretch in stretches]).repeat_interleave(repeats)
        if int(ids.min()) < 0 or int(ids.max()) >= self.entries or bool((places >= rooms).any()):
            raise IndexError
        caches = torch.tensor([stretch.cache.data_ptr() for stretch in stretches]).repeat_interleave(repeats)
        own = torch.zeros(2, lanes, dtype=torch.int32)
        if self.rank:
            ranks = torch.tensor([stretch.ranks for stretch in stretches], dtype=torch.int32)
            own[:, :tokens] = ranks.repeat_interleave(repeats, 0).t()
        asked = (ends - 1)[torch.tensor([stretch.wanted for stretch in stretches])]
        scores = torch.empty(len(asked), self.words)
        cos, sin = self._model.model.rotary_emb(scores, places[None])
        described = _Step(
            tokens=tokens,
            wanted=len(asked),
            rank=self.rank,
            threads=torch.get_num_threads(),
            **{name: array.data_ptr() for name, array in (("ids", ids), ("places", places), ("rooms", rooms))},
            **{name: array.data_ptr() for name, array in (("caches", caches), ("cos", cos), ("sin", sin), ("own", own))},
            **{name: array.data_ptr() for name, array in (("asked", asked), ("scores", scores))},
        )
        if not self._library.answering_step(ctypes.byref(self._described), ctypes.byref(described)):
            raise MemoryError
        return scores


def is_plain(adapter: Mapping[str, LoraLayer], names: Set[str]) -> bool:
    """Return whether an adapter, its layers by their names, is plain LoRA on layers of these names."""
    return adapter.keys() <= names and all(layer.lora_magnitude is None for layer in adapter.values())


def stack_adapters(
    adapters: Sequence[tuple[Mapping[str, LoraLayer], tuple[int, int]]], whole: int, linears: Sequence[tuple[str, int, int]]
) -> list[tuple[Tensor, Tensor] | None]:
    """Return what `CompiledModel.set_stack` takes: A (whole, inputs) and B (outputs, whole) for each of `linears`.

    Each adapter comes with the first and the end of its rows of A and columns of B. B has its scale multiplied in; what
    belongs to nobody is zero.
    """
    pairs: list[tuple[Tensor, Tensor] | None] = []
    for name, outputs, inputs in linears:
        layers = [(adapter[name], *place) for adapter, place in adapters if name in adapter]
        if not layers:
            pairs.append(None)
            continue
        a, b = torch.zeros(whole, inputs, dtype=torch.bfloat16), torch.zeros(outputs, whole, dtype=torch.bfloat16)
        for layer, first, end in layers:
            a[first:end] = layer.lora_A
            b[:, first:end] = layer.lora_B.to(b.dtype) * layer.scale
        pairs.append((a, b))
    return pairs


def find_compiled(model: nn.Module) -> CompiledModel | None:
    """Return the model as compiled code takes it; None where it is of another kind or the processor has no wide vectors."""
    library = load_library()
    if library is None or not library.has_products() or not _is_plain(model):
        return None
    return CompiledModel(model, library)


def _is_plain(model: Any) -> bool:
    """Whether a model is of a known kind, whole, in bfloat16, with sizes that fill tiles."""
    if type(model) not in _KINDS or getattr(model.config, "sliding_window", None) is not None:
        return False
    config, layers = model.config, model.model.layers
    width = layers[0].self_attn.head_dim
    sizes = [config.hidden_size, config.intermediate_size, width, config.num_key_value_heads * width]
    tensors = [*model.parameters(), *model.buffers()]
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return (
        all(size % RANKS == 0 for size in sizes)
        and width <= WIDEST_HEAD
        and config.num_attention_heads <= MOST_GROUPS * config.num_key_value_heads
        and model.lm_head.weight.shape[0] >= RANKS
        and model.lm_head.bias is None
        and config.rope_parameters.get("rope_type", "default") in _FIXED_TURNS
        and 2 * len(model.model.rotary_emb.inv_freq) == width
        and all(isinstance(layer.mlp.act_fn, SiLUActivation) for layer in layers)
        and all(type(linear) is nn.Linear for linear in linears)
        and len(linears) == 7 * len(layers) + 1
        and all(tensor.device.type == "cpu" for tensor in tensors)
        and all(parameter.dtype == torch.bfloat16 and parameter.is_contiguous() for parameter in model.parameters())
    )


def _unwrapped(layer: Any) -> Any:
    return getattr(layer, "wrapped", layer)


def _describe(layer: Any) -> _Block:
    attention, mlp = layer.self_attn, layer.mlp
    query_norm, key_norm = getattr(attention, "q_norm", None), getattr(attention, "k_norm", None)
    inputs = [_linear(getattr(attention, name)) for name in ATTENTION[:3]]
    return _Block(
        norm=layer.input_layernorm.weight.data_ptr(),
        query_norm=None if query_norm is None else query_norm.weight.data_ptr(),
        key_norm=None if key_norm is None else key_norm.weight.data_ptr(),
        mlp_norm=layer.post_attention_layernorm.weight.data_ptr(),
        inputs=(_Linear * 3)(*inputs),
        out=_linear(attention.o_proj),
        up=(_Linear * 2)(_linear(mlp.gate_proj), _linear(mlp.up_proj)),
        down=_linear(mlp.down_proj),
    )


def _linear(layer: Any) -> _Linear:
    linear = _unwrapped(layer)
    bias = None if linear.bias is None else linear.bias.data_ptr()
    return _Linear(weight=linear.weight.data_ptr(), bias=bias, a=None, b=None, outputs=linear.weight.shape[0])
