"""Norms, gated activations and rotations on a card by Liger's kernels, where they are installed.

Each takes the place of five to ten passes of PyTorch over the activations and keeps less for the backward pass: the norm its
input alone, the activation no product (Hsu et al. 2024, arXiv 2410.10989). Only these three: our loss holds no logits, and
adapters are functions of our own. Frozen norms ask for no gradient of their weights. tests/engine/test_liger.py compares whole
models with and without, by Triton's interpreter on a processor; no card has run it yet.

Without the package `liger-kernel` (extra `liger`) nothing changes.
"""

import importlib.util
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import SiLUActivation
from transformers.models.llama import modeling_llama
from transformers.models.mistral import modeling_mistral
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen3 import modeling_qwen3

_NORMS = (
    modeling_llama.LlamaRMSNorm,
    modeling_mistral.MistralRMSNorm,
    modeling_qwen2.Qwen2RMSNorm,
    modeling_qwen3.Qwen3RMSNorm,
)
"""Root mean square in fp32, rounded, then times the weight."""
_MLPS = (modeling_llama.LlamaMLP, modeling_mistral.MistralMLP, modeling_qwen2.Qwen2MLP, modeling_qwen3.Qwen3MLP)
_ROTATING: tuple[ModuleType, ...] = (modeling_llama, modeling_mistral, modeling_qwen2, modeling_qwen3)
_TYPES = (torch.float32, torch.bfloat16, torch.float16)
WIDEST = 1 << 16
"""Columns that one program of the kernels takes."""

Rotate = Callable[..., tuple[Tensor, Tensor]]


def is_installed() -> bool:
    """Return whether the kernels can be imported."""
    return all(importlib.util.find_spec(name) is not None for name in ("liger_kernel", "triton"))


def use_liger(model: nn.Module) -> int:
    """Let the known modules of `model` compute with Liger's kernels; return how many do, and rotate so in this process."""
    norms = [module for module in model.modules() if type(module) in _NORMS and _fits(module.weight)]  # type: ignore[arg-type]
    mlps = [module for module in model.modules() if type(module) in _MLPS and _is_gated(module)]
    for module in norms:
        module.forward = _make_norm(module)
    for module in mlps:
        module.forward = _make_mlp(module)
    if norms or mlps:
        for modeling in _ROTATING:
            plain = modeling.apply_rotary_pos_emb
            if not hasattr(plain, "plain"):
                modeling.apply_rotary_pos_emb = _make_rotation(plain)  # type: ignore[attr-defined]
    return len(norms) + len(mlps)


def _fits(weight: Tensor) -> bool:
    return weight.dtype in _TYPES and weight.shape[-1] <= WIDEST


def _is_gated(mlp: Any) -> bool:
    return isinstance(mlp.act_fn, SiLUActivation | nn.SiLU) and mlp.intermediate_size <= WIDEST


def _make_norm(norm: Any) -> Callable[[Tensor], Tensor]:
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction

    def forward(hidden_states: Tensor) -> Tensor:
        # Not in place: the gradient that comes in may be somebody else's too.
        normed: Tensor = LigerRMSNormFunction.apply(hidden_states, norm.weight, norm.variance_epsilon, 0.0, "llama", False)
        return normed

    return forward


def _make_mlp(mlp: Any) -> Callable[[Tensor], Tensor]:
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction

    def forward(x: Tensor) -> Tensor:
        # Its backward pass writes over both products, which nothing else keeps.
        down: Tensor = mlp.down_proj(LigerSiLUMulFunction.apply(mlp.gate_proj(x), mlp.up_proj(x)))
        return down

    return forward


def _make_rotation(plain: Rotate) -> Rotate:
    """Return a rotation by the kernel, or by `plain` for what it does not take: other devices and types."""
    from liger_kernel.ops.rope import LigerRopeFunction

    def rotate(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
        if q.device.type == "meta" or q.dtype not in _TYPES or unsqueeze_dim != 1:
            return plain(q, k, cos, sin, unsqueeze_dim)
        rotated: tuple[Tensor, Tensor] = LigerRopeFunction.apply(q, k, cos, sin)
        return rotated

    rotate.plain = plain  # type: ignore[attr-defined]
    return rotate
