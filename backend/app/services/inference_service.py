"""Ask models: a tuned one and the original beside it, or any others. A training that holds the device goes first."""

import queue
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import partial

from sqlalchemy.orm import Session

from app.contracts.chat import ChatDelta, GenerateCommand, Generation
from app.contracts.dataset import Message
from app.contracts.job import TrainingJob
from app.inference import client
from app.services import job_service
from app.services.studio import Studio
from app.services.voices import Voice, get_base_voice, get_job_voice, share_weights
from app.storage.repositories import Jobs

WAIT_SECONDS = 1.0
"""Between two looks at a device that a training holds; each look tells the reader that the answer waits."""
CRASHES = 2
"""A worker that dies before its first word is started once more, no oftener."""
DEVICE_NEEDED = "conflict.device_needed"


@dataclass(frozen=True)
class Question:
    """One command for the worker of one device."""

    device_id: str
    command: GenerateCommand


def prepare(
    studio: Studio, session: Session, job_id: str, *, messages: list[Message], generation: Generation, compare: bool
) -> list[Question]:
    """Return what to ask: the tuned model, and the original when `compare`.

    Raise NotFound for an unknown job, Conflict for one that has left no adapter.
    """
    tuned = get_job_voice(studio, session, job_id)
    asked = [("tuned", tuned)]
    if compare:
        asked.append(("base", get_base_voice(TrainingJob.model_validate_json(job_service.get_job(session, job_id).spec))))
    return [Question(voice.device_id, voice.command(target, generation, messages=messages)) for target, voice in asked]


def prepare_all(voices: list[Voice], conversations: list[list[Message]], generation: Generation) -> list[Question]:
    """Return one question a voice, each with its own conversation; the target's name is its place, from 0."""
    return [
        Question(voice.device_id, voice.command(str(place), generation, messages=messages))
        for place, (voice, messages) in enumerate(zip(share_weights(voices), conversations, strict=True))
    ]


def answer(studio: Studio, questions: list[Question]) -> Iterator[ChatDelta]:
    """Stream all answers at once, piece by piece as they come; closing the iterator stops the work on them."""
    if len(questions) == 1:
        yield from answer_one(studio, questions[0])
        return
    told: queue.SimpleQueue[ChatDelta | None] = queue.SimpleQueue()
    stopped = threading.Event()

    def ask(question: Question) -> None:
        stream = answer_one(studio, question)
        try:
            for delta in stream:
                if stopped.is_set():
                    return
                told.put(delta)
        finally:
            stream.close()
            told.put(None)

    for question in questions:
        threading.Thread(target=partial(ask, question), name="answer", daemon=True).start()
    try:
        left = len(questions)
        while left:
            delta = told.get()
            if delta is None:
                left -= 1
            else:
                yield delta
    finally:
        stopped.set()


def answer_one(studio: Studio, question: Question) -> Generator[ChatDelta]:
    """Stream one answer; its last piece is `finished`. It waits while a training holds the device, and says so."""
    command = question.command
    crashes = 0
    while True:
        while _is_training(studio, question.device_id):
            yield ChatDelta(target=command.target, waiting=True)
            time.sleep(WAIT_SECONDS)
        spoken = False
        try:
            for delta in client.generate(studio.workers.ensure(question.device_id), command):
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
