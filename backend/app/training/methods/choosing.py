"""From a job to its method."""

from app.contracts.job import TrainingJob
from app.training.gradient import Computer
from app.training.methods.classification import Classification, list_classes
from app.training.methods.dpo import Dpo
from app.training.methods.interface import Method
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
    return _prepare(job, compute, train), _prepare(job, compute, heldout)


def _prepare(job: TrainingJob, compute: Computer, part: EncodedRows) -> Method:
    rows = part.rows
    if job.method not in ("dpo", "kto"):
        return Likelihood(rows, part.counts.trained_tokens)
    file = compute.job_dir.encoded / f"{part.counts.key[:16]}.reference"
    reference = find_reference(compute, job, rows, file)
    if job.method == "dpo":
        return Dpo(rows, reference, job.beta)
    mismatched = Mismatched(rows, compute.max_length)
    foreign = find_reference(compute, job, mismatched, file.with_suffix(".mismatched"))
    return Kto(rows, mismatched, reference, foreign, job.beta)
