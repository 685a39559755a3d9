"""The capsule of a job, from its folder."""

from pathlib import Path

from sqlalchemy.orm import Session

from app.contracts.capsule import Capsule, Curve
from app.contracts.events import EvalLogged, Noted, StepLogged
from app.contracts.job import TrainingJob
from app.core.errors import AffinageError
from app.datasets.tokenizer_files import load_tokenizer_files
from app.services import job_service
from app.services.reproducing import make_request
from app.services.studio import Studio
from app.storage.checkpoint_dir import hash_file
from app.storage.job_dir import utc_now

ADAPTER_FILE = "adapter_model.safetensors"


def make_capsule(studio: Studio, session: Session, job_id: str) -> Capsule:
    """Return what a job was and what came of it so far. Raise NotFound."""
    row = job_service.get_job(session, job_id)
    job = TrainingJob.model_validate_json(row.spec)
    folder = studio.job_dir(job_id)
    steps: dict[int, StepLogged] = {}
    evaluations: dict[int, EvalLogged] = {}
    decisions: list[Noted] = []
    for event in folder.read_events():
        if isinstance(event, StepLogged):
            steps[event.step] = event
        elif isinstance(event, EvalLogged):
            evaluations[event.step] = event
        elif isinstance(event, Noted):
            decisions.append(event)
    comparison = folder.find_comparison()
    adapter = folder.adapter / ADAPTER_FILE
    return Capsule(
        made_at=utc_now(),
        job=job,
        adapter_sha256=hash_file(adapter) if adapter.is_file() else None,
        chat_template=_find_template(Path(job.model.path), folder.adapter),
        curve=Curve(
            steps=sorted(steps),
            losses=[steps[step].loss for step in sorted(steps)],
            learning_rates=[steps[step].learning_rate for step in sorted(steps)],
        ),
        evaluations=[evaluations[step] for step in sorted(evaluations)],
        decisions=decisions,
        report=folder.find_report(),
        comparison=comparison and comparison.model_copy(update={"worst": [], "facts": [], "system_prompt": None}),
        request=make_request(job),
    )


def _find_template(*folders: Path) -> str | None:
    """Return the chat template of the first folder that holds a tokenizer."""
    for folder in folders:
        try:
            return load_tokenizer_files(folder).chat_template
        except (AffinageError, OSError):
            continue
    return None
