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

from app.contracts.hardware import DeviceKind
from app.planner.memory import LOSS_STEP, count_loss_rows
from app.training.attention import packs_always
from app.training.batching import MicroBatch
from app.training.precision import widen, widen_type
from app.training.primitives import cross_entropy, takes_kernels


class _Nll(torch.autograd.Function):
    """-log softmax(hidden @ weight.T + bias)[target] of each row, (rows,); only `hidden` gets a gradient.

    A row of `hidden` changes only its own loss: its gradient is known in the forward pass, up to a factor.
    """

    @staticmethod
    def forward(  # noqa: PLR0917  autograd passes them by place
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        rows: int,
        needs_grad: bool,
        kind: DeviceKind,
    ) -> Tensor:
        losses = torch.empty(hidden.shape[0], dtype=widen_type(hidden.dtype), device=hidden.device)
        grad = torch.empty_like(hidden) if needs_grad else None
        step = LOSS_STEP if hidden.device.type == "cpu" else 1
        kernels = kind == "cpu" and takes_kernels(hidden)
        most = min(rows, -(-hidden.shape[0] // step) * step)
        # One array for all chunks: the largest of a step, and taken anew each time it would cut up the heap.
        wide = torch.empty(most, weight.shape[0], dtype=hidden.dtype if kernels else losses.dtype, device=hidden.device)
        for start in range(0, hidden.shape[0], rows):
            part = slice(start, start + rows)
            target = targets[part]
            count = len(target)
            missing = -count % step
            states = F.pad(hidden[part], (0, 0, 0, missing)) if missing else hidden[part]
            # d nll / d logits = softmax - one-hot, in fp32 before it is rounded to the weights' type.
            delta = wide[: len(states)]
            if kernels:
                torch.mm(states, weight.t(), out=delta)
                if bias is not None:
                    delta.add_(bias)
                cross_entropy(delta[:count], target, losses[part], learn=needs_grad)
            else:
                delta.copy_(F.linear(states, weight, bias))
                # In place: each number is read before it is written.
                torch.ops.aten._log_softmax.out(delta, -1, False, out=delta)
                torch.neg(delta[:count].gather(1, target[:, None])[:, 0], out=losses[part])
                if grad is not None:
                    ones = torch.full_like(target[:, None], -1, dtype=delta.dtype)
                    delta.exp_()[:count].scatter_add_(1, target[:, None], ones)
            if grad is not None:
                grad[part] = (delta.to(hidden.dtype) @ weight)[:count]
        ctx.grad = grad
        return losses

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad, ctx.grad = ctx.grad, None
        return grad.mul_(grads[0].to(grad.dtype)[:, None]), None, None, None, None, None, None


def nll(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    *,
    chunk_rows: int | None = None,
    kind: DeviceKind = "cpu",
) -> Tensor:
    """Return each row's cross-entropy in nats, (rows,). hidden (rows, width), weight (vocabulary, width), targets (rows,).

    `chunk_rows` have their logits at the same time; None = as many as pay on that kind of device. The backward pass may run
    once: the gradient is handed over, not copied.
    """
    rows = count_loss_rows(kind, weight.shape[0]) if chunk_rows is None else chunk_rows
    losses: Tensor = _Nll.apply(  # type: ignore[no-untyped-call]
        hidden, weight, bias, targets, rows, torch.is_grad_enabled() and hidden.requires_grad, kind
    )
    return losses


def summed_nll(hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the sum of `nll`."""
    return nll(hidden, weight, targets, bias).sum()


@dataclass(frozen=True)
class LossHead:
    """Computes the loss of a causal language model on chosen positions."""

    model: nn.Module
    chunk_rows: int
    """Labelled positions that have their logits at the same time. 0 when all have: where the model does more than multiply by
    the head and add its bias (soft-capping, scaling)."""
    kind: DeviceKind = "cpu"
    """The kind of device that the model is on, or that `meta` stands for."""

    @staticmethod
    def of(model: nn.Module, kind: DeviceKind = "cpu") -> "LossHead":
        """Choose the path: chunked when the head maps the body's last hidden states, unchanged, to the model's own logits.

        Judged by where the tensors of one forward pass over four tokens come from, not by their values: the answer is the
        same on every device, `meta` included.
        """
        words = model.get_output_embeddings().weight.shape[0] if _head_is_plain(model) else 0  # type: ignore[operator]
        return LossHead(model, count_loss_rows(kind, words) if words else 0, kind)

    @property
    def packs(self) -> bool:
        """Whether all micro-batches of several rows are packed; on a card those that it pays for (gradient.py)."""
        return packs_always(self.model)

    def summed(self, batch: MicroBatch) -> Tensor:
        """Return the summed loss of the batch's targets in nats."""
        return self.each(batch).sum()

    def each(self, batch: MicroBatch) -> Tensor:
        """Return the loss of each of the batch's targets in nats, (targets,)."""
        arguments: dict[str, Any] = {"input_ids": batch.ids, "use_cache": False}
        if batch.layout is not None:
            arguments |= {"position_ids": batch.places, "layout": batch.layout}
        if self.chunk_rows:
            body: nn.Module = self.model.base_model  # type: ignore[assignment]
            head: nn.Linear = self.model.get_output_embeddings()  # type: ignore[operator]
            hidden = body(**arguments).last_hidden_state
            chosen = hidden.view(-1, hidden.shape[-1]).index_select(0, batch.positions)
            return nll(chosen, head.weight, batch.targets, head.bias, chunk_rows=self.chunk_rows, kind=self.kind)
        logits = self.model(**arguments).logits
        chosen = logits.view(-1, logits.shape[-1]).index_select(0, batch.positions)
        return F.cross_entropy(widen(chosen), batch.targets, reduction="none")


def _head_is_plain(model: nn.Module) -> bool:
    head = model.get_output_embeddings()  # type: ignore[operator]
    body: nn.Module = model.base_model  # type: ignore[assignment]
    if type(head) is not nn.Linear or body is model:
        return False
    seen: dict[str, Tensor] = {}

    def note_hidden(_module: nn.Module, _arguments: object, output: Any) -> None:
        seen["hidden"] = output.last_hidden_state

    def note_head(_module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        seen["input"], seen["output"] = arguments[0], output

    hooks = [body.register_forward_hook(note_hidden), head.register_forward_hook(note_head)]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            ids = torch.arange(4, device=head.weight.device)[None]
            logits = model(input_ids=ids, use_cache=False).logits
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    if "hidden" not in seen:
        return False  # the model calls a part of its body, not the body itself (OPT)
    return logits is seen["output"] and _is_same(seen["input"], seen["hidden"])


def _is_same(view: Tensor, whole: Tensor) -> bool:
    """Whether `view` shows the whole of the same memory: models slice their hidden states before the head."""
    same_storage = view.untyped_storage()._cdata == whole.untyped_storage()._cdata
    return same_storage and view.shape == whole.shape and view.stride() == whole.stride()
