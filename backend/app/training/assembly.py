"""Put a trainable model together, and take one step with it. The engine, the planner's trace and the calibration use this.

Nothing here reads a value from the device, so all of it also runs on `meta` tensors, where only sizes exist.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedConfig

from app.contracts.hardware import DeviceKind
from app.contracts.job import Lora
from app.contracts.options import Dtype, Quantization
from app.planner.moments import takes_eight_bits
from app.training.attention import choose_attention
from app.training.batching import MicroBatch
from app.training.blocks import fuse_blocks
from app.training.eight_bit import EightBitAdamW
from app.training.liger import is_installed, use_liger
from app.training.lora import attach, note_change
from app.training.loss import LossHead


@dataclass(frozen=True)
class Trainable:
    """A frozen model with its adapter, its loss and the optimizer of the adapter."""

    model: nn.Module
    parameters: list[nn.Parameter]
    """Of the adapter, fp32."""
    head: LossHead
    optimizer: torch.optim.Optimizer


def build_unloaded(
    config: PreTrainedConfig, *, device: torch.device, kind: DeviceKind, dtype: Dtype, checkpointing: bool
) -> nn.Module:
    """Return the model that `config` describes, as `load_model` would but without its weights.

    `device` may be `meta` (nothing is allocated); `kind` is the kind of device that it stands for. Elsewhere the weights
    are random.
    """
    with device:
        model: nn.Module = AutoModelForCausalLM.from_config(
            config, dtype=getattr(torch, dtype), attn_implementation=choose_attention(config, kind), trust_remote_code=False
        )
    return prepare_frozen(model, checkpointing=checkpointing)


def prepare_frozen(model: nn.Module, *, checkpointing: bool) -> nn.Module:
    """Switch the frozen model's dropout off and recomputation on or off; return it in training mode.

    The frozen model computes the same in training as in use; only the adapter may have dropout. GPT-2 was pretrained with
    0.1: kept, it would make losses depend on how a batch is split.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            setattr(module, "attention_dropout", 0.0)  # noqa: B010  a plain attribute, which nn.Module does not declare
        config = getattr(module, "config", None)
        if getattr(config, "pad_token_id", None) is not None:
            # Rows are padded on the right and the loss picks its positions. With this number transformers would look for
            # padding in the ids of every batch: a wait for a card, and impossible on `meta`.
            config.pad_token_id = None  # type: ignore[union-attr]
    if checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
    return model.train()


def assemble(
    model: nn.Module,
    lora: Lora,
    *,
    kind: DeviceKind,
    quantization: Quantization = "none",
    learning_rate: float = 1e-4,
    weight_decay: float = 0.0,
) -> Trainable:
    """Put adapter, loss and optimizer on a frozen model. `kind` is the kind of device that the model stands for.

    Draws from torch's global generator: seed it first. Raises Invalid for targets that the model does not have.
    """
    parameters = attach(model, lora)
    if kind == "cpu":
        fuse_blocks(model)
    elif parameters[0].device.type == "cuda" and is_installed():  # on `meta` a trace counts what it takes without
        use_liger(model)
    optimizer: torch.optim.Optimizer
    if takes_eight_bits(kind, quantization):
        optimizer = EightBitAdamW(parameters, lr=learning_rate, weight_decay=weight_decay)
    else:
        on_meta = parameters[0].device.type == "meta"
        optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=not on_meta)
    return Trainable(model, parameters, LossHead.of(model, kind), optimizer)


def add_gradient(head: LossHead, batch: MicroBatch, scale: float = 1.0) -> Tensor:
    """Run one micro-batch forward and backward; return its summed loss in nats, detached, on the device.

    The gradients are `scale` times those of the loss.
    """
    loss = head.summed(batch)
    (loss if scale == 1.0 else loss * scale).backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def find_gradient(
    head: LossHead, batch: MicroBatch, parameters: Sequence[nn.Parameter], scale: float = 1.0
) -> tuple[float, list[Tensor]]:
    """Return a micro-batch's summed loss in nats and `scale` times its gradient, leaving the parameters' own alone."""
    loss = head.summed(batch)
    gradients = torch.autograd.grad(loss if scale == 1.0 else loss * scale, parameters, materialize_grads=True)
    return loss.item(), list(gradients)


def finish_gradient(parameters: Sequence[nn.Parameter], weight: float, max_norm: float) -> Tensor:
    """Turn the summed gradients into means and clip them; return the norm before the clip.

    `weight` is what they are sums over: trained tokens or pairs, times the loss scale.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    torch._foreach_div_(gradients, weight)
    return nn.utils.clip_grad_norm_(parameters, max_norm)


def update(optimizer: torch.optim.Optimizer, learning_rate: float, *, keep_gradients: bool = False) -> None:
    """Take the optimizer's step at this learning rate; then drop the gradients, or set them to zero where they are.

    Kept, they stay at one place of a processor's heap (see `memory.settle`); on a card dropping them is free memory.
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    note_change()
    optimizer.zero_grad(set_to_none=not keep_gradients)
