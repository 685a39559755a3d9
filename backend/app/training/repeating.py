"""What happens when a loss or a gradient is not a number: the same rows once more, in full precision.

Half precision overflows where fp32 does not, and a fused kernel may fail where the plain formula holds. So the frozen
model is loaded a second time in fp32, it borrows the adapter's own parameters, and computes the same rows with the same
dropout. Nothing has been lost until then: the optimizer has not stepped.
"""

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from app.contracts.events import Noted
from app.contracts.job import TrainingJob
from app.hardware.probe import read_memory
from app.training.assembly import assemble
from app.training.batching import Row
from app.training.gradient import Computer
from app.training.loading import load_model
from app.training.lora import share_adapter
from app.training.memory import is_out_of_memory, release
from app.training.scaling import LossScale

Result = TypeVar("Result")
Numbers = tuple[float, ...]

log = logging.getLogger(__name__)

MOST_NAMED = 40
"""Rows named in a sentence; the others are counted by an ellipsis."""


def is_finite(*numbers: float) -> bool:
    """Return whether every number is one."""
    return all(math.isfinite(number) for number in numbers)


def name_rows(rows: Iterable[Row]) -> str:
    """Return the numbers of the rows in the imported file, in order, for a sentence."""
    ordered = sorted({row.row for row in rows})
    named = ", ".join(str(number) for number in ordered[:MOST_NAMED])
    return f"{named}, …" if len(ordered) > MOST_NAMED else named


def compute_finite(
    compute: Computer,
    job: TrainingJob,
    attempt: Callable[[Computer], Result],
    numbers: Callable[[Result], Numbers],
    note: Callable[[], Noted],
) -> Result:
    """Return `attempt(compute)`; where its `numbers` are not all finite, log `note()` and try once more in fp32.

    What comes back may still not be finite: then fp32 gave the same, or had no room.
    """
    random_state = compute.random_state()
    result = attempt(compute)
    if is_finite(*numbers(result)):
        return result
    compute.job_dir.append(note())
    again = repeat_in_fp32(compute, job, attempt, random_state)
    return result if again is None else again


def repeat_in_fp32(
    compute: Computer, job: TrainingJob, attempt: Callable[[Computer], Result], random_state: list[torch.Tensor]
) -> Result | None:
    """Return `attempt` computed in fp32 from `random_state` on; None where memory has no room for the model in fp32.

    Gradients that were there are dropped first; those of the attempt are left on the adapter's parameters.
    """
    clear_gradients(compute.parameters, keep=compute.device.type == "cpu")
    if not _has_room(compute, job):
        compute.job_dir.append(Noted(level="warning", key="not_finite.no_room"))
        return None
    log.info("computing the step again in fp32")
    try:
        return attempt(_in_fp32(compute, job, random_state))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        compute.job_dir.append(Noted(level="warning", key="not_finite.no_room"))
        return None
    finally:
        release()


def _in_fp32(compute: Computer, job: TrainingJob, random_state: list[torch.Tensor]) -> Computer:
    model = load_model(job.model_copy(update={"dtype": "float32"}), compute.device)
    built = assemble(model, job.lora, kind="cpu" if compute.device.type == "cpu" else "cuda")
    share_adapter(compute.head.model, model)
    compute.set_random_state(random_state)
    return replace(compute, head=built.head, scale=LossScale(), graphs=None)


def _has_room(compute: Computer, job: TrainingJob) -> bool:
    """Whether the frozen model's weights fit into free memory a second time, in fp32 (4-bit ones stay 4-bit)."""
    weights = [tensor for tensor in compute.head.model.parameters() if not tensor.requires_grad]
    needed = sum(tensor.nbytes if job.quantization == "nf4" else tensor.numel() * 4 for tensor in weights)
    if compute.device.type == "cuda":
        return needed <= torch.cuda.mem_get_info(compute.device)[0]
    return needed <= read_memory(Path("/proc"), Path("/sys"))[1]


def clear_gradients(parameters: Iterable[nn.Parameter], *, keep: bool) -> None:
    """Forget the gradients; `keep` sets them to zero where they are (see `memory.settle`)."""
    for parameter in parameters:
        if keep and parameter.grad is not None:
            parameter.grad.zero_()
        else:
            parameter.grad = None
