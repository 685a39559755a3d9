"""Continue the adapter of a finished job with more rows."""

from dataclasses import dataclass
from typing import Any

from app.contracts.job import TrainingJob
from app.contracts.options import FinetuningOptions
from app.core.errors import Conflict, Invalid
from app.services import job_service
from app.services.studio import Studio
from app.storage.job_dir import JobDir

SHAPE_OPTIONS = {
    "lora_rank": "rank",
    "lora_alpha": "alpha",
    "target_modules": "target_modules",
    "use_rslora": "use_rslora",
    "use_dora": "use_dora",
}
"""Options that are fixed by an adapter that exists, and their names in `Lora`."""


@dataclass(frozen=True)
class Continued:
    """The job that is continued."""

    job: TrainingJob
    folder: JobDir

    @property
    def preset(self) -> FinetuningOptions:
        """The values that its adapter fixes."""
        lora = self.job.lora.model_dump()
        return FinetuningOptions.model_validate({option: lora[field] for option, field in SHAPE_OPTIONS.items()})


def find_continued(studio: Studio, job_id: str | None, model_id: str, options: dict[str, Any]) -> Continued | None:
    """Return the job to continue, or None when none is named.

    Raise NotFound; Conflict where it left no adapter; Invalid for another model or another shape of adapter.
    """
    if job_id is None:
        return None
    with studio.database.reading() as session:
        row, folder = job_service.get_here(studio, session, job_id)
        if not job_service.can_chat(studio, row):
            raise Conflict("nothing_to_continue", job_id=job_id)
    continued = Continued(folder.read_job(), folder)
    if continued.job.model.model_id != model_id:
        raise Invalid("continue_model", job_id=job_id, model_id=continued.job.model.model_id)
    fixed = continued.preset.model_dump()
    for option in SHAPE_OPTIONS:
        if options.get(option) is not None and options[option] != fixed[option]:
            raise Invalid("continue_adapter", option=option, value=fixed[option])
    return continued
