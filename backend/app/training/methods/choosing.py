"""From a job to its method."""

from collections.abc import Sequence

from app.contracts.job import TrainingJob
from app.planner.run_shape import count_group
from app.training.batching import epoch_order
from app.training.gradient import Computer
from app.training.methods.classification import Classification, list_classes
from app.training.methods.dpo import Dpo
from app.training.methods.interface import EXAMPLES_TOGETHER, Method
from app.training.methods.kto import Kto, Mismatched
from app.training.methods.likelihood import Likelihood
from app.training.methods.reference import find_reference
from app.training.rows import EncodedRows


def prepare(job: TrainingJob, compute: Computer, train: EncodedRows, heldout: EncodedRows) -> tuple[Method, Method]:
    """Return the method over the training rows and over the held-out ones.

    Call it while the adapter is as it was at the start of the job.
    """
    if job.method == "classification":
        classes = list_classes(train.rows)
        return (
            Classification(train.rows, train.counts.trained_tokens, classes),
            Classification(heldout.rows, heldout.counts.trained_tokens, classes),
        )
    return _prepare(job, compute, train, learned=True), _prepare(job, compute, heldout, learned=False)


def _prepare(job: TrainingJob, compute: Computer, part: EncodedRows, *, learned: bool) -> Method:
    rows = part.rows
    if job.method not in ("dpo", "kto"):
        return Likelihood(rows, part.counts.trained_tokens)
    file = compute.job_dir.encoded / f"{part.counts.key[:16]}.reference"
    parts = list_parts(len(rows) // count_group(job.method), job if learned else None)
    reference = find_reference(compute, job, rows, parts, file)
    if job.method == "dpo":
        return Dpo(rows, reference, job.beta)
    mismatched = Mismatched(rows, compute.max_length)
    foreign = find_reference(compute, job, mismatched, parts if mismatched else [], file.with_suffix(".mismatched"))
    return Kto(rows, mismatched, reference, foreign, job.beta)


def list_parts(count: int, job: TrainingJob | None) -> list[Sequence[int]]:
    """Return `count` examples, by their places, as they are computed together: by the steps of the first epoch of `job`,
    or without one as an evaluation does."""
    places: Sequence[int] = range(count)
    together = EXAMPLES_TOGETHER
    if job is not None:
        places, together = epoch_order(count, job.optimization.seed, 0), job.optimization.effective_batch_size
    return [places[start : start + together] for start in range(0, count, together)]
