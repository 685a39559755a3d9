"""Which layers of a model can carry an adapter, by the names that LoRA targets have: asked of the architecture itself."""

import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from app.core.errors import Unsupported
from app.planner.trace.engine_step import count_layers, read_config

ROUTERS = frozenset({"gate", "router", "shared_expert_gate"})
"""Layers that choose experts: small, and an adapter on them changes which experts answer, not how they do."""


def list_targets(config: str) -> list[str]:
    """Return the shortest names that match every linear layer of the model's blocks and nothing else, in their order.

    `config` is the model's config.json as text. Raise Unsupported for a model that transformers does not know, or whose
    blocks hold no linear layer.
    """
    read = read_config(config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(read, trust_remote_code=False)
    prefix = find_blocks(model, count_layers(read))
    modules = dict(model.named_modules())
    wanted = [
        name
        for name, module in modules.items()
        if name.startswith(f"{prefix}.") and isinstance(module, nn.Linear | Conv1D) and name.rsplit(".", 1)[-1] not in ROUTERS
    ]
    if not wanted:
        raise Unsupported("model_config", field="model_type")
    chosen: dict[str, None] = {}
    matched: set[str] = set()
    for name in wanted:
        if name not in matched:
            suffix = _find_suffix(name, prefix, set(wanted), list(modules))
            chosen[suffix] = None
            matched |= {other for other in wanted if other.endswith(f".{suffix}")}
    return list(chosen)


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
