"""Fine-tuning jobs as OpenAI's interface asks for them, turned into jobs of this house.

What the interface knows and a job does not (the files that were named, the metadata, the suffix) lies beside the job as
`openai.json`. A script that repeats a request because the answer was lost gets the job of the first one.
"""

import hashlib
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from app.contracts.frozen import Frozen
from app.contracts.job import TrainingJob
from app.contracts.options import Method
from app.core.errors import Invalid
from app.services import dataset_service, finetuning_service, job_service, planning_service
from app.services.openai_names import get_named, tuned_name
from app.services.studio import Studio
from app.storage.job_dir import RequestKey, write_atomically
from app.storage.repositories import Jobs
from app.storage.tables import JobRow

FILE = "openai.json"
KEY_PREFIX = "v1-"
CHECKPOINTS_KEPT = 3
"""One is written after each epoch, and the last three stay: what scripts for OpenAI's service expect."""
REPEATED_MINUTES = 10
"""A repeated request this long after the first one is still the same request."""


class Wanted(Frozen):
    """What a script asked for, in this house's terms."""

    model: str
    training_file: str
    validation_file: str | None = None
    method: Method | None = None
    num_epochs: int | None = None
    batch_size: int | None = None
    """Rows an optimizer step sees."""
    learning_rate_multiplier: float | None = None
    """Times the learning rate that would be chosen automatically."""
    beta: float | None = None
    seed: int | None = None
    suffix: str = ""
    metadata: dict[str, str] | None = None


class Asked(Frozen):
    """`openai.json`: what belongs to the interface, not to the training."""

    training_file: str
    validation_file: str | None = None
    suffix: str = ""
    metadata: dict[str, str] | None = None
    learning_rate_multiplier: float | None = None


def create_job(studio: Studio, wanted: Wanted, *, repeated: bool) -> JobRow:
    """Queue the job and return its row; `repeated`: the script says that it has sent this before.

    Raise NotFound, Invalid, DatasetInvalid and what `finetune` raises.
    """
    request_hash = hashlib.sha256(wanted.model_dump_json().encode()).hexdigest()
    if repeated and (found := _find_first(studio, request_hash)) is not None:
        return found
    with studio.database.reading() as session:
        named = get_named(studio, session, wanted.model)
        continued = None
        model_id = named.model_id
        if named.job_id is not None:
            if named.checkpoint is not None:
                raise Invalid("checkpoint_as_start", model=wanted.model)
            continued = TrainingJob.model_validate_json(job_service.get_job(session, named.job_id).spec)
            model_id = continued.model.model_id
    assert model_id is not None, "a name is a job or a model"
    dataset_id = wanted.training_file
    if wanted.validation_file is not None:
        dataset_id = join_files(studio, wanted.training_file, wanted.validation_file)
    options: dict[str, Any] = {
        "continue_from": continued.job_id if continued else None,
        "method": wanted.method,
        "beta": wanted.beta,
        "num_epochs": wanted.num_epochs,
        "batch_size": wanted.batch_size,
        "gradient_accumulation_steps": 1 if wanted.batch_size is not None else None,
        "seed": wanted.seed,
    }
    plan = planning_service.plan(studio, dataset_id, model_id, **options)
    if wanted.learning_rate_multiplier is not None:
        automatic = float(plan.resolved["learning_rate"].value)
        options["learning_rate"] = min(1.0, automatic * wanted.learning_rate_multiplier)
    row = finetuning_service.finetune(
        studio.for_request(RequestKey(key=f"{KEY_PREFIX}{uuid.uuid4().hex}", request_hash=request_hash)),
        dataset_id,
        model_id,
        name=wanted.suffix or None,
        checkpoint_every_steps=max(1, plan.steps // int(plan.resolved["num_epochs"].value)),
        checkpoints_kept=CHECKPOINTS_KEPT,
        **options,
    )
    note = Asked(**{name: getattr(wanted, name) for name in Asked.model_fields})
    write_atomically(studio.job_dir(row.job_id).path / FILE, note.model_dump_json(indent=2))
    return row


def find_asked(studio: Studio, row: JobRow) -> Asked:
    """Return what the interface knows about a job; a job that was started otherwise has only its data set."""
    try:
        return Asked.model_validate_json((studio.job_dir(row.job_id).path / FILE).read_bytes())
    except FileNotFoundError:
        return Asked(training_file=row.dataset_id)


def name_result(studio: Studio, row: JobRow) -> str:
    """Return the name under which the job's model is asked."""
    return tuned_name(row.model_id, row.job_id, find_asked(studio, row).suffix)


def join_files(studio: Studio, training: str, validation: str) -> str:
    """Import two JSON Lines files as one data set whose rows say to which part they belong; return its id.

    Raise NotFound; Invalid for files of another format or rows with a `split` of their own.
    """
    infos = [dataset_service.get_dataset(studio, dataset_id) for dataset_id in (training, validation)]
    if any(info.format != "jsonl" or info.container is not None for info in infos):
        raise Invalid("validation_format")
    with TemporaryDirectory(dir=studio.settings.data_dir / "tmp", prefix="joined-") as folder:
        joined = Path(folder) / "joined.jsonl"
        with joined.open("w", encoding="utf-8") as file:
            for info, split in zip(infos, ("train", "validation"), strict=True):
                for row in _read_rows(studio.dataset_dir(info.dataset_id).source_file("jsonl")):
                    file.write(json.dumps({**row, "split": split}, ensure_ascii=False) + "\n")
        name = f"{infos[0].name} + {infos[1].name}"[:200]
        return dataset_service.import_upload(studio, joined, filename="joined.jsonl", name=name).dataset_id


def _read_rows(file: Path) -> Iterator[dict[str, object]]:
    with file.open(encoding="utf-8-sig") as lines:
        for line in lines:
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                continue  # a problem that the import of this file has named
            if isinstance(row, dict):
                if "split" in row:
                    raise Invalid("validation_split")
                yield row


def _find_first(studio: Studio, request_hash: str) -> JobRow | None:
    since = (datetime.now(UTC) - timedelta(minutes=REPEATED_MINUTES)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    with studio.database.reading() as session:
        key = Jobs(session).find_recent_key(KEY_PREFIX, request_hash, since)
        return Jobs(session).find(key.job_id) if key is not None else None
