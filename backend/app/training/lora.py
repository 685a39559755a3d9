"""LoRA layers of our own, and adapters on disk in PEFT's format.

An adapter adds `scale * B(A(dropout(x)))` to a frozen linear layer, scale = alpha / rank (Hu et al. 2021, arXiv
2106.09685) or alpha / sqrt(rank) (rsLoRA). With DoRA each row of the sum W + scale * B A is brought to a length of its
own, which is trained: see `LoraLayer._resized`. Each plain layer is one autograd function: it keeps only the input and the
rank-sized product for the backward pass and writes no intermediate of the layer's output size. A and B stay in fp32 and are
cast once per call. Works on nn.Linear and GPT-2's Conv1D; on any other linear layer (bitsandbytes) it falls back to plain
autograd.
"""

import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from app.contracts.job import Lora
from app.core.errors import Invalid, Unsupported
from app.storage.job_dir import fsync_folder
from app.training.dropout import drop
from app.training.precision import widen, widen_type

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_REFUSED_OPTIONS = (
    "lora_bias",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "layer_replication",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
)
"""Options of PEFT that change the arithmetic; an adapter that uses one is refused instead of computed wrongly."""
_REFUSED_STARTS = ("pissa", "corda", "olora", "loftq", "lora_ga")
"""Ways to begin after which PEFT computes with other frozen weights (`init_lora_weights`)."""
_changes = 0


def note_change() -> None:
    """Say that an optimizer has changed parameters: whoever keeps a cast copy of them casts again."""
    global _changes  # noqa: PLW0603  a counter of this process
    _changes += 1


def count_changes() -> int:
    """Return how often `note_change` was called."""
    return _changes


class _LoraProduct(torch.autograd.Function):
    """x W + bias + scale * (dropped A^T) B^T, with gradients for x, dropped, A and B."""

    @staticmethod
    def forward(  # noqa: PLR0917  autograd passes them by place
        ctx: Any, x: Tensor, dropped: Tensor | None, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        """`weight` is (out, in) or its transposed view; `dropped` is x after dropout, None when it is x itself."""
        flat = x.reshape(-1, x.shape[-1])
        inner = flat if dropped is None else dropped.reshape(-1, x.shape[-1])
        a, b = a.to(x.dtype), b.to(x.dtype)
        low = inner @ a.t()
        y = flat @ weight.t() if bias is None else torch.addmm(bias, flat, weight.t())
        y.addmm_(low, b.t(), alpha=scale)
        ctx.save_for_backward(inner, weight, a, b, low)
        ctx.scale, ctx.shape, ctx.has_dropout = scale, x.shape, dropped is not None
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        inner, weight, a, b, low = ctx.saved_tensors
        grad = grads[0].reshape(-1, grads[0].shape[-1])
        grad_b = widen(grad.t() @ low).mul_(ctx.scale)
        grad_low = grad @ b
        grad_a = widen(grad_low.t() @ inner).mul_(ctx.scale)
        grad_x = grad_dropped = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ weight
            if not ctx.has_dropout:
                grad_x.addmm_(grad_low, a, alpha=ctx.scale)
            grad_x = grad_x.view(ctx.shape)
        if ctx.has_dropout and ctx.needs_input_grad[1]:
            grad_dropped = (grad_low @ a).mul_(ctx.scale).view(ctx.shape)
        return grad_x, grad_dropped, None, None, grad_a, grad_b, None


class LoraLayer(nn.Module):
    """A frozen linear layer with its adapter."""

    def __init__(
        self, wrapped: nn.Module, rank: int, scale: float, dropout: float, *, dora: bool = False, number: int = 0
    ) -> None:
        super().__init__()
        self.wrapped = wrapped
        self.number = number
        """Among the adapters of the model: tells its dropout masks from theirs."""
        self.transposed = isinstance(wrapped, Conv1D)
        self.fused = self.transposed or type(wrapped) is nn.Linear
        inputs, outputs = _sizes(wrapped)
        self.scale = scale
        self.dropout = dropout
        self.enabled = True
        # Drawn on the processor, so that one seed gives one start on every device.
        start = torch.empty(rank, inputs)
        nn.init.kaiming_uniform_(start, a=math.sqrt(5))
        device = next(wrapped.parameters()).device
        self.lora_A = nn.Parameter(start.to(device))
        self.lora_B = nn.Parameter(torch.zeros(outputs, rank, device=device))
        lengths = _row_lengths(wrapped) if dora else None
        self.lora_magnitude = None if lengths is None else nn.Parameter(lengths.clone())
        """DoRA's trained lengths, (outputs,); None without DoRA."""
        self.register_buffer("lengths", lengths, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the wrapped layer's output plus the adapter's."""
        if not self.enabled:
            return self.wrapped(x)  # type: ignore[no-any-return]
        dropped = drop(x, self.dropout, self.number) if self.training and self.dropout else None
        if self.lora_magnitude is not None:
            return self._resized(x, dropped)
        if self.fused:
            weight = self.wrapped.weight.t() if self.transposed else self.wrapped.weight  # type: ignore[operator]
            product: Tensor = _LoraProduct.apply(  # type: ignore[no-untyped-call]
                x, dropped, weight, self.wrapped.bias, self.lora_A, self.lora_B, self.scale
            )
            return product
        y: Tensor = self.wrapped(x)
        low = F.linear(x if dropped is None else dropped, self.lora_A.to(x.dtype))
        return y + F.linear(low, self.lora_B.to(x.dtype)).to(y.dtype) * self.scale

    def parameters_of_adapter(self) -> list[nn.Parameter]:
        """Return what is trained."""
        return [self.lora_A, self.lora_B, *([] if self.lora_magnitude is None else [self.lora_magnitude])]

    def _resized(self, x: Tensor, dropped: Tensor | None) -> Tensor:
        """DoRA: g * (W x + scale * B A x) + bias, with g = magnitude / length of the rows of W + scale * B A.

        The lengths count as constants in the backward pass (section 4.3 of the paper), and dropout acts on what differs from
        the plain layer, both as in PEFT.
        """
        bias: Tensor | None = self.wrapped.bias  # type: ignore[assignment]
        plain: Tensor = self.wrapped(x)
        inner = x if dropped is None else dropped
        product = plain if dropped is None else self.wrapped(inner)
        if bias is not None:
            product = product - bias
        low = F.linear(inner, self.lora_A.to(x.dtype))
        update = F.linear(low, self.lora_B.to(x.dtype)) * self.scale
        assert self.lora_magnitude is not None, "only DoRA comes here"
        factor = self.lora_magnitude / self._summed_lengths()
        change = (factor - 1).to(x.dtype) * product + factor.to(x.dtype) * update
        return plain + change.to(plain.dtype)

    @torch.no_grad()
    def _summed_lengths(self) -> Tensor:
        """Return the lengths of the rows of W + scale * B A, (outputs,), without ever holding that sum.

        |w + s b A|^2 = |w|^2 + 2 s (w A^T) . b + s^2 (b A A^T) . b for a row w of W and b of B.
        """
        a, b = self.lora_A, self.lora_B
        kind = self.wrapped.weight.dtype if self.fused else a.dtype
        crossed = self.wrapped(a.to(kind))  # type: ignore[arg-type]
        if self.wrapped.bias is not None:
            crossed = crossed - self.wrapped.bias
        squares = self.lengths.square()  # type: ignore[operator]
        squares = squares + 2 * self.scale * (crossed.to(b.dtype).t() * b).sum(1)
        squares = squares + self.scale**2 * ((b @ (a @ a.t())) * b).sum(1)
        lengths: Tensor = squares.sqrt()
        return lengths


def attach(model: nn.Module, lora: Lora) -> list[nn.Parameter]:
    """Freeze `model`, put an adapter on every layer that `lora.target_modules` names, return the new parameters.

    A target matches a module's full name or its last parts, as in PEFT (`q_proj` matches `model.layers.0.self_attn.q_proj`).
    Draws from torch's global generator: seed it first. Raises Invalid when a target matches nothing or no linear layer.
    """
    model.requires_grad_(False)
    modules = dict(model.named_modules())
    linears = {name: module for name, module in modules.items() if _is_linear(module)}
    chosen: dict[str, nn.Module] = {}
    for target in lora.target_modules:
        matches = [name for name in modules if name == target or name.endswith("." + target)]
        if not matches or any(name not in linears for name in matches):
            available = sorted({name.rsplit(".", 1)[-1] for name in linears})
            raise Invalid("target_modules", target=target, available=", ".join(available))
        chosen.update((name, linears[name]) for name in matches)
    parameters: list[nn.Parameter] = []
    for number, name in enumerate(name for name in modules if name in chosen):
        layer = LoraLayer(chosen[name], lora.rank, lora.scale, lora.dropout, dora=lora.use_dora, number=number)
        layer.train(model.training)  # A new module starts in training mode: an answering model would get dropout.
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer)
        parameters += layer.parameters_of_adapter()
    return parameters


def keep_layout(model: nn.Module) -> None:
    """Let bitsandbytes' 4-bit layers on a processor keep their weights as they are.

    In their first answer without gradients they would turn the weights into another layout, with coarser scales, which the
    next training step would compute with (bitsandbytes 0.50.2 on processors with AVX-512 BF16).
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def adapter_tensors(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return every adapter parameter by the key that PEFT's files use for it."""
    tensors: dict[str, nn.Parameter] = {}
    for name, module in _layers(model):
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = module.lora_A
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = module.lora_B
        if module.lora_magnitude is not None:
            tensors[f"{_PREFIX}{name}.lora_magnitude_vector"] = module.lora_magnitude
    return tensors


def has_dropout(model: nn.Module) -> bool:
    """Return whether the model's adapter drops anything in training."""
    return any(layer.dropout > 0 for _, layer in _layers(model))


def share_adapter(owner: nn.Module, borrower: nn.Module) -> None:
    """Let `borrower`, the same model with an adapter of the same shape, compute with the parameters of `owner`."""
    for (_, lender), (_, layer) in zip(_layers(owner), _layers(borrower), strict=True):
        layer.lora_A, layer.lora_B, layer.lora_magnitude = lender.lora_A, lender.lora_B, lender.lora_magnitude


@contextmanager
def adapter_disabled(model: nn.Module) -> Iterator[None]:
    """Compute as the original model inside the block."""
    layers = [layer for _, layer in _layers(model)]
    before = [layer.enabled for layer in layers]
    try:
        for layer in layers:
            layer.enabled = False
        yield
    finally:
        for layer, enabled in zip(layers, before, strict=True):
            layer.enabled = enabled


def save_adapter(
    model: nn.Module,
    folder: Path,
    base_model_id: str,
    lora: Lora,
    *,
    revision: str | None = None,
    beside: Sequence[Path] = (),
) -> None:
    """Write the adapter as `PeftModel.from_pretrained` reads it; `folder` appears complete or not at all.

    `base_model_id` and `revision` tell a reader which weights it belongs to (a hub id and commit, or a folder).
    `beside` are files to copy into the folder: the tokenizer that the adapter was trained with.
    """
    layers = list(_layers(model))
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    tensors = {key: value.detach().to("cpu").contiguous() for key, value in adapter_tensors(model).items()}
    save_file(tensors, aside / WEIGHTS_NAME, metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model_id,
        "revision": revision,
        "inference_mode": True,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": lora.target_modules,
        "fan_in_fan_out": any(layer.transposed for _, layer in layers),
        "bias": "none",
        "init_lora_weights": True,
        "modules_to_save": None,
        "use_dora": lora.use_dora,
        "use_rslora": lora.use_rslora,
    }
    (aside / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    for file in beside:
        shutil.copyfile(file, aside / file.name)
    for file in aside.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    if folder.exists():
        shutil.rmtree(folder)
    aside.rename(folder)
    fsync_folder(folder.parent)


def load_adapter(model: nn.Module, folder: Path) -> list[nn.Parameter]:
    """Attach the adapter in `folder` (written by us or by PEFT) to `model` and return its parameters.

    Raises Unsupported for variants of LoRA that compute something else, Invalid when it belongs to another model.
    """
    config = json.loads((folder / CONFIG_NAME).read_text("utf-8"))
    refused = [option for option in _REFUSED_OPTIONS if config.get(option)]
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none":
        refused.append(f"{config.get('peft_type')}, bias={config.get('bias')}")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_REFUSED_STARTS):
        refused.append(f"init_lora_weights={start}")
    if isinstance(config["target_modules"], str):
        refused.append(f"target_modules={config['target_modules']}")
    if refused:
        raise Unsupported("adapter", options=", ".join(refused))
    lora = Lora(
        rank=config["r"],
        alpha=config["lora_alpha"],
        dropout=config.get("lora_dropout", 0.0),
        target_modules=sorted(config["target_modules"]),
        fan_in_fan_out=bool(config.get("fan_in_fan_out")),
        use_rslora=bool(config.get("use_rslora")),
        use_dora=bool(config.get("use_dora")),
    )
    parameters = attach(model, lora)
    load_tensors(model, folder / WEIGHTS_NAME)
    return parameters


def load_tensors(model: nn.Module, file: Path) -> None:
    """Fill the attached adapter from a safetensors file. Raises Invalid when names or sizes differ."""
    expected = adapter_tensors(model)
    with safe_open(file, framework="pt") as stored:
        if set(stored.keys()) != set(expected):
            raise Invalid("adapter_mismatch")
        with torch.no_grad():
            for key, parameter in expected.items():
                tensor = stored.get_tensor(key)
                if tensor.shape != parameter.shape:
                    raise Invalid("adapter_mismatch")
                parameter.copy_(tensor)


def _layers(model: nn.Module) -> Iterator[tuple[str, LoraLayer]]:
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            yield name, module


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | Conv1D)


def _row_lengths(wrapped: nn.Module) -> Tensor:
    """Return the length of each row of the layer's weight as (outputs, inputs), in at least fp32."""
    weight: Tensor = wrapped.weight  # type: ignore[assignment]
    if hasattr(weight, "quant_state"):
        from bitsandbytes.functional import dequantize_4bit

        weight = dequantize_4bit(weight.data, weight.quant_state)
    lengths: Tensor = torch.linalg.vector_norm(
        weight, dim=0 if isinstance(wrapped, Conv1D) else 1, dtype=widen_type(weight.dtype)
    )
    return lengths.detach()


def _sizes(module: nn.Module) -> tuple[int, int]:
    """Return (inputs, outputs); a 4-bit weight is packed, so its shape says nothing."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    inputs, outputs = module.weight.shape  # type: ignore[misc]
    return int(inputs), int(outputs)
