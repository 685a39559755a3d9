"""Ask the tuned model, and the original beside it. A training that holds the device goes first."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.contracts.chat import ChatDelta, GenerateCommand, Generation
from app.contracts.dataset import Message
from app.contracts.job import TrainingJob
from app.core.errors import Conflict
from app.inference import client
from app.services import job_service
from app.services.studio import Studio
from app.storage.repositories import Jobs

WAIT_SECONDS = 1.0
"""Between two looks at a device that a training holds; each look tells the reader that the answer waits."""
CRASHES = 2
"""A worker that dies before its first word is started once more, no oftener."""
DEVICE_NEEDED = "conflict.device_needed"


@dataclass(frozen=True)
class Conversation:
    """Commands for the worker of one device, in the order of the answers."""

    device_id: str
    commands: list[GenerateCommand]


def prepare(
    studio: Studio, session: Session, job_id: str, *, messages: list[Message], generation: Generation, compare: bool
) -> Conversation:
    """Return what to ask. Raise NotFound for an unknown job, Conflict for one that has left no adapter."""
    row = job_service.get_job(session, job_id)
    if not job_service.can_chat(studio, row):
        raise Conflict("not_trained", job_id=job_id, status=row.status)
    job = TrainingJob.model_validate_json(row.spec)
    adapter = str(studio.job_dir(job_id).adapter)
    targets: list[tuple[str, str | None]] = [("tuned", adapter), *([("base", None)] if compare else [])]
    commands = [
        GenerateCommand(
            target=target,
            model_path=job.model.path,
            adapter_path=adapter_path,
            dtype=job.dtype,
            quantization=job.quantization,
            messages=messages,
            generation=generation,
        )
        for target, adapter_path in targets
    ]
    return Conversation(job.device_id, commands)


def answer(studio: Studio, conversation: Conversation) -> Iterator[ChatDelta]:
    """Stream one answer after the other."""
    for command in conversation.commands:
        yield from _answer_one(studio, conversation.device_id, command)


def _answer_one(studio: Studio, device_id: str, command: GenerateCommand) -> Iterator[ChatDelta]:
    crashes = 0
    while True:
        while _is_training(studio, device_id):
            yield ChatDelta(target=command.target, waiting=True)
            time.sleep(WAIT_SECONDS)
        spoken = False
        try:
            for delta in client.generate(studio.workers.ensure(device_id), command):
                if delta.error_key == DEVICE_NEEDED and not spoken:
                    break  # a training came first; wait for it
                spoken = spoken or bool(delta.delta)
                yield delta
                if delta.finished:
                    return
        except OSError as problem:
            crashes += 1
            if spoken or crashes == CRASHES:
                failure = {"reason": str(problem)}
                yield ChatDelta(target=command.target, finished=True, error_key="worker_killed.chat", error_params=failure)
                return


def _is_training(studio: Studio, device_id: str) -> bool:
    with studio.database.reading() as session:
        return Jobs(session).find_in_slot(studio.supervisor.claimant.slot(device_id)) is not None
