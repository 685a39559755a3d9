"""Next-token distributions of a model at chosen places, and how far another model's are from them.

Only the likeliest tokens of the reference are kept one by one, the rest as one sum: exact divergences over a vocabulary of
150,000 would need gigabytes. Joining outcomes can only lower a divergence (data processing inequality), and what lies
beyond 256 tokens is little.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from app.export.places import PlacedRow

KEPT = 256
"""Tokens of the reference that count one by one."""
_TINY = 1e-12
NOT_A_NUMBER = 1000.0
"""Nats: the divergence of what is not a number, far beyond every bound."""


@dataclass(frozen=True)
class Scores:
    """A model's predictions at `n` places."""

    best: npt.NDArray[np.int64]
    """(n,) the likeliest token."""
    kept_ids: npt.NDArray[np.int64]
    """(n, kept) the reference's likeliest tokens, whose log-probabilities follow."""
    kept: npt.NDArray[np.float32]
    """(n, kept) in nats."""
    targets: npt.NDArray[np.float32]
    """(n,) log-probability of the token that really follows."""

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        return float(-self.targets.mean())


@torch.inference_mode()
def score(model: nn.Module, rows: Sequence[PlacedRow], reference: Scores | None = None) -> Scores:
    """Return the predictions of `model`; at the tokens that `reference` kept, or at its own likeliest ones."""
    best, ids_kept, kept, targets = [], [], [], []
    device = next(model.parameters()).device
    start = 0
    for row in rows:
        ids = torch.tensor([row.ids], device=device)
        places = torch.tensor(row.places, device=device)
        logits = model(input_ids=ids, use_cache=False).logits[0]
        logs = logits[places - 1].float().log_softmax(-1)
        if reference is None:
            chosen = logs.topk(min(KEPT, logs.shape[-1]), dim=-1).indices
        else:
            chosen = torch.from_numpy(reference.kept_ids[start : start + len(places)]).to(device)
        best.append(logs.argmax(-1).cpu().numpy())
        ids_kept.append(chosen.cpu().numpy())
        kept.append(logs.gather(1, chosen).cpu().numpy())
        targets.append(logs.gather(1, ids[0][places].unsqueeze(1))[:, 0].cpu().numpy())
        start += len(places)
    return Scores(np.concatenate(best), np.concatenate(ids_kept), np.concatenate(kept), np.concatenate(targets))


def first(scores: Scores, count: int) -> Scores:
    """Return the predictions at the first `count` places."""
    return Scores(scores.best[:count], scores.kept_ids[:count], scores.kept[:count], scores.targets[:count])


def top1_agreement(reference: Scores, other: Scores) -> float:
    """Return the share of places with the same likeliest token, 0..1."""
    return float((reference.best == other.best).mean())


def divergence(reference: Scores, kept: npt.NDArray[np.float32]) -> float:
    """Return the mean divergence KL(reference || other) in nats; `kept` are the other's logs at the reference's tokens.

    A log-probability of -inf means that the engine did not name the token: it counts among the rest, on both sides.
    """
    return float(divergences(reference, kept).mean())


def divergences(reference: Scores, kept: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the divergence at each place, (n,) in nats; see `divergence`. NOT_A_NUMBER for what is none."""
    named = ~np.isneginf(kept)
    p = np.where(named, np.exp(reference.kept.astype(np.float64)), 0.0)
    q = np.where(named, np.exp(kept.astype(np.float64)), 0.0)
    p_rest = np.clip(1.0 - p.sum(1), _TINY, 1.0)
    q_rest = np.clip(1.0 - q.sum(1), _TINY, 1.0)
    with np.errstate(invalid="ignore"):
        logs = np.where(named, reference.kept.astype(np.float64) - kept.astype(np.float64), 0.0)
    result: npt.NDArray[np.float64] = (p * logs).sum(1) + p_rest * (np.log(p_rest) - np.log(q_rest))
    return np.where(np.isfinite(result), np.maximum(result, 0.0), NOT_A_NUMBER)
