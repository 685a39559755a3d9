"""Who is asked: a model as it is, a job's result, or one of its checkpoints; and what the chat worker needs to be it."""

from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy.orm import Session

from app.contracts.chat import GenerateCommand, Generation
from app.contracts.dataset import Message
from app.contracts.job import Lora, TrainingJob
from app.contracts.options import Quantization
from app.core.errors import Conflict, ModelUnavailable, NotFound
from app.services import job_service
from app.services.finetuning_service import MODEL_CONFIGS
from app.services.model_service import hub_name
from app.services.studio import Studio
from app.storage.checkpoint_dir import list_checkpoints
from app.storage.model_store import missing_files


@dataclass(frozen=True)
class Voice:
    """One model that can be asked, on one device."""

    device_id: str
    model_path: str
    dtype: str
    quantization: Quantization
    adapter_path: str | None = None
    lora: Lora | None = None

    def command(
        self, target: str, generation: Generation, *, messages: list[Message] | None = None, prompt: str | None = None
    ) -> GenerateCommand:
        """Return the line for the chat worker."""
        return GenerateCommand(
            target=target,
            model_path=self.model_path,
            adapter_path=self.adapter_path,
            lora=self.lora,
            dtype=self.dtype,
            quantization=self.quantization,
            messages=messages or [],
            prompt=prompt,
            generation=generation,
        )


def get_model_voice(studio: Studio, model_id: str) -> Voice:
    """Return a model of the catalogue, of the hub or of a folder as it is. Raise NotFound; ModelUnavailable if it is not here."""
    name = hub_name(model_id)
    source = studio.models.find(name)
    entry = MODEL_CONFIGS.get(model_id)
    if source is None:
        if entry is None and studio.added.find(model_id) is None and "/" not in model_id:
            raise NotFound("model", model_id=model_id)
        raise ModelUnavailable("weights_not_here", model_id=model_id)
    device = studio.hardware().best
    half = "bfloat16" if device.bf16 else "float16"
    return Voice(
        device_id=device.id,
        model_path=source.path,
        dtype=half if device.bf16 or device.kind == "cuda" else "float32",
        quantization=entry.quantization if entry is not None and device.kind == "cuda" else "none",
    )


def get_job_voice(studio: Studio, session: Session, job_id: str, checkpoint: str | None = None) -> Voice:
    """Return what a job has learned, at its end or at a checkpoint.

    Raise NotFound for an unknown job or checkpoint, Conflict for a job that has left no adapter, and what get_base_voice raises.
    """
    row, folder = job_service.get_here(studio, session, job_id)
    job = TrainingJob.model_validate_json(row.spec)
    if checkpoint is not None:
        path = _get_checkpoint(folder.checkpoints, job_id, checkpoint)
        return replace(get_base_voice(job), adapter_path=str(path), lora=job.lora)
    if not job_service.can_chat(studio, row):
        raise Conflict("not_trained", job_id=job_id, status=row.status)
    return replace(get_base_voice(job), adapter_path=str(folder.adapter))


def get_base_voice(job: TrainingJob) -> Voice:
    """Return the model that a job starts from, with the weights as the job has them.

    Raise ModelUnavailable where those of a hub model were deleted since; the chat worker unpacks the embedded one by itself.
    """
    if job.model.kind == "hub" and missing_files(Path(job.model.path)):
        raise ModelUnavailable("weights_not_here", model_id=job.model.model_id)
    return Voice(job.device_id, job.model.path, job.dtype, job.quantization)


def share_weights(voices: list[Voice]) -> list[Voice]:
    """Let plain models use the precision of a job with the same weights: one copy in memory answers for both."""
    adapted = {(voice.model_path, voice.device_id): voice for voice in reversed(voices) if voice.adapter_path is not None}
    return [
        replace(voice, dtype=other.dtype, quantization=other.quantization)
        if voice.adapter_path is None and (other := adapted.get((voice.model_path, voice.device_id))) is not None
        else voice
        for voice in voices
    ]


def _get_checkpoint(folder: Path, job_id: str, name: str) -> Path:
    for path in list_checkpoints(folder):
        if path.name == name:
            return path
    raise NotFound("checkpoint", job_id=job_id, name=name)
