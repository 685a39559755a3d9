"""Cross-entropy over the vocabulary without ever holding all logits.

For 512 tokens and 50,000 words the logits of one row take 100 MB in fp32, and autograd would keep them twice. Here the
labelled positions pass through the output head in chunks, and the gradient with respect to the hidden states is worked
out in the forward pass, so a chunk's logits die at once. Positions are chosen by index tensors, never by boolean masks:
every size is known beforehand.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_CHUNK_ELEMENTS = {"cpu": 1 << 23, "cuda": 1 << 24}
"""Logits per chunk: 32 MB in fp32 stays near the processor's cache; 64 MB on a card, small enough for cards of 2 GB."""


class _SummedNll(torch.autograd.Function):
    """Sum over rows of -log softmax(hidden @ weight.T)[target]; only `hidden` gets a gradient."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, needs_grad: bool) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad = torch.empty_like(hidden) if needs_grad else None
        rows = max(1, _CHUNK_ELEMENTS.get(hidden.device.type, 1 << 23) // weight.shape[0])
        for start in range(0, hidden.shape[0], rows):
            part = slice(start, start + rows)
            target = targets[part, None]
            log_probs = F.log_softmax((hidden[part] @ weight.t()).float(), dim=-1)
            total -= log_probs.gather(1, target).sum()
            if grad is not None:
                # d nll / d logits = softmax - one-hot, in fp32 before it is rounded to the weights' type.
                delta = log_probs.exp_()
                delta.scatter_add_(1, target, torch.full_like(target, -1, dtype=delta.dtype))
                grad[part] = delta.to(hidden.dtype) @ weight
        ctx.grad = grad
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None, None]:
        grad, ctx.grad = ctx.grad, None
        return grad.mul_(grads[0].to(grad.dtype)), None, None, None


def summed_nll(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return the summed cross-entropy in nats. hidden (rows, width), weight (vocabulary, width), targets (rows,).

    The backward pass may run once: the gradient is handed over, not copied.
    """
    total: Tensor = _SummedNll.apply(  # type: ignore[no-untyped-call]
        hidden, weight, targets, torch.is_grad_enabled() and hidden.requires_grad
    )
    return total


@dataclass(frozen=True)
class LossHead:
    """Computes the loss of a causal language model on chosen positions."""

    model: nn.Module
    chunked: bool
    """False when the model does more than multiply by the head (bias, soft-capping, scaling): then the plain path."""

    @staticmethod
    def of(model: nn.Module) -> "LossHead":
        """Choose the path by trying it: chunked when `hidden @ head.T` gives this model's own logits on four tokens."""
        return LossHead(model, _head_is_plain(model))

    def summed(self, ids: Tensor, positions: Tensor, targets: Tensor) -> Tensor:
        """Return the summed loss in nats.

        ids (batch, length), padded on the right; `positions` are indices into the flattened (batch * length) that
        predict the ids in `targets`.
        """
        if self.chunked:
            body: nn.Module = self.model.base_model  # type: ignore[assignment]
            hidden = body(input_ids=ids, use_cache=False).last_hidden_state
            chosen = hidden.view(-1, hidden.shape[-1]).index_select(0, positions)
            return summed_nll(chosen, _head(self.model).weight, targets)
        logits = self.model(input_ids=ids, use_cache=False).logits
        chosen = logits.view(-1, logits.shape[-1]).index_select(0, positions)
        return F.cross_entropy(chosen.float(), targets, reduction="sum")


def _head(model: nn.Module) -> nn.Linear:
    head = model.get_output_embeddings()  # type: ignore[operator]
    assert isinstance(head, nn.Linear)
    return head


def _head_is_plain(model: nn.Module) -> bool:
    head = model.get_output_embeddings()  # type: ignore[operator]
    if type(head) is not nn.Linear or getattr(head, "bias", None) is not None:
        return False
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            ids = torch.arange(4, device=head.weight.device)[None]
            body: nn.Module = model.base_model  # type: ignore[assignment]
            hidden = body(input_ids=ids, use_cache=False).last_hidden_state
            logits = model(input_ids=ids, use_cache=False).logits.float()
            return bool(torch.allclose((hidden @ head.weight.t()).float(), logits, rtol=1e-2, atol=1e-3))
    finally:
        model.train(training)
