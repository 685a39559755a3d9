"""The checks of rows as tokens that a start makes, in the trainer: for a model that had to be fetched first."""

from itertools import islice

from app.contracts.dataset import Example
from app.contracts.events import Noted
from app.contracts.job import TrainingJob
from app.datasets.counting import count_examples
from app.datasets.render import Renderer
from app.datasets.token_checks import Cut, check_tokens, refuse_failed
from app.storage.job_dir import JobDir

MOST_COUNTED = 2000
"""Rows that are looked at; of more, every n-th."""


def check_rows(job: TrainingJob, job_dir: JobDir, renderer: Renderer) -> None:
    """Note every doubt about the training rows. Raise DatasetInvalid where they cannot teach what they should."""
    every = max(1, -(-job.dataset.train_rows // MOST_COUNTED))
    with job_dir.train_file.open("rb") as file:
        examples = map(Example.model_validate_json, islice(file, 0, None, every))
        counts = list(count_examples(renderer, examples))
    long_rows = job.plan.resolved.get("long_rows")
    cut = Cut(
        max_length=job.optimization.max_length,
        long_rows=job.optimization.long_rows,
        divisible=job.method not in ("dpo", "kto"),
        chosen=long_rows is not None and long_rows.origin == "user",
    )
    checks = check_tokens(counts, cut, classes=job.method == "classification")
    refuse_failed(checks)
    for check in checks:
        if check.status == "warning":
            job_dir.append(Noted(level="warning", key=check.key, params=check.params))
