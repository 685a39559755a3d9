"""What a model holds, asked of the architecture itself: the layers that can carry an adapter, and how many parameters."""

from typing import Any

import torch
from torch import nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from app.contracts.trace import Linears
from app.core.errors import Unsupported
from app.planner.trace.engine_step import count_layers, read_config

ROUTERS = frozenset({"gate", "router", "shared_expert_gate"})
"""Layers that choose experts: small, and an adapter on them changes which experts answer, not how they do."""


MOST_LAYERS = 1000
"""No published model has a fourth of it; more would be built for minutes."""


def list_targets(config: str) -> Linears:
    """Return the shortest names that match every linear layer of the model's blocks and nothing else, and its size.

    `config` is the model's config.json as text. Raise Unsupported for a model that transformers does not know, that does not
    continue text, or whose blocks hold no linear layer.
    """
    read = read_config(config)
    check_continues(read)
    if count_layers(read) > MOST_LAYERS:
        raise Unsupported("model_config", field="num_hidden_layers")
    model = build(read)
    prefix = find_blocks(model, count_layers(read))
    modules = dict(model.named_modules())
    matrices = {
        name: module.weight.numel()
        for name, module in modules.items()
        if name.startswith(f"{prefix}.") and isinstance(module, nn.Linear | Conv1D)
    }
    wanted = [name for name in matrices if name.rsplit(".", 1)[-1] not in ROUTERS]
    if not wanted:
        raise Unsupported("model_config", field="model_type")
    chosen: dict[str, None] = {}
    matched: set[str] = set()
    for name in wanted:
        if name not in matched:
            suffix = _find_suffix(name, prefix, set(wanted), list(modules))
            chosen[suffix] = None
            matched |= {other for other in wanted if other.endswith(f".{suffix}")}
    return Linears(
        names=list(chosen),
        params=sum(parameter.numel() for parameter in model.parameters()),
        matrix_weights=sum(matrices.values()),
    )


def check_blocks(config: Any) -> None:
    """Raise Unsupported for a model of which a few blocks cannot stand for all: after the first one they differ in size.

    Of some every fourth block attends in another way, others have experts in every second block or from the fourth on.
    """
    if not 1 < count_layers(config) <= MOST_LAYERS:
        return
    model = build(config)
    blocks = list(model.get_submodule(find_blocks(model, count_layers(config))).children())
    sizes = {tuple(parameter.shape for parameter in block.parameters()) for block in blocks[1:]}
    if len(sizes) > 1:
        raise Unsupported("uneven_blocks")


def build(config: Any) -> nn.Module:
    """Return the whole model on `meta`."""
    with torch.device("meta"):
        model: nn.Module = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return model


def check_continues(config: Any) -> None:
    """Raise Unsupported for a type that transformers knows and that does not continue text: no such model, or an encoder."""
    kind = type(config)
    encoder = kind in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING or encoder or getattr(config, "is_encoder_decoder", False):
        raise Unsupported("not_a_decoder", model_id=config.model_type, architecture=config.model_type)


def find_blocks(model: nn.Module, layers: int) -> str:
    """Return the name of the list of transformer blocks: of those with so many entries the one with most parameters.

    Raise Unsupported where there is none.
    """
    lists: list[tuple[int, str]] = [
        (sum(parameter.numel() for parameter in module.parameters()), name)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == layers
    ]
    if not lists:
        raise Unsupported("model_config", field="model_type")
    return max(lists)[1]


def _find_suffix(name: str, prefix: str, wanted: set[str], modules: list[str]) -> str:
    """Return the shortest end of `name`, within its block, that matches wanted layers only."""
    parts = name[len(prefix) + 1 :].split(".")[1:]  # without the block's number
    for count in range(1, len(parts) + 1):
        suffix = ".".join(parts[-count:])
        if all(other in wanted for other in modules if other.endswith(f".{suffix}")):
            return suffix
    return name
