"""Try models: the tuned one of a job, or any beside each other."""

from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.sse import EventSourceResponse

from app.api.chat_wording import check_question, delta_events, read_turns
from app.api.deps import LanguageDep, SessionDep, StudioDep
from app.api.responses import problems
from app.api.schemas.chat import ChatAllRequest, ChatDeltaRead, ChatRequest
from app.services import inference_service
from app.services.inference_service import Question
from app.services.voices import get_job_voice, get_model_voice

router = APIRouter(prefix="/api", tags=["chat"])


def prepare(job_id: str, body: ChatRequest, studio: StudioDep, session: SessionDep) -> list[Question]:
    """Refuse with a status (unknown job, not trained yet, empty question) before the stream begins."""
    messages = read_turns(body.messages, body.prompt)
    return inference_service.prepare(studio, session, job_id, messages=messages, generation=body.generation, compare=body.compare)


def prepare_all(body: ChatAllRequest, studio: StudioDep, session: SessionDep) -> list[Question]:
    """Refuse with a status (unknown model, job or checkpoint, empty question) before the stream begins."""
    common = None
    if body.messages is not None or body.prompt is not None or any(target.messages is None for target in body.targets):
        common = read_turns(body.messages, body.prompt)
    conversations = [common if target.messages is None else target.messages for target in body.targets]
    turns = [conversation or [] for conversation in conversations]
    for conversation in turns:
        check_question(conversation)
    voices = [
        get_model_voice(studio, target.model)
        if target.model is not None
        else get_job_voice(studio, session, target.job_id or "", target.checkpoint)
        for target in body.targets
    ]
    return inference_service.prepare_all(voices, turns, body.generation)


@router.post("/jobs/{job_id}/chat", response_class=EventSourceResponse, responses=problems(404, 409))
def chat_with_job(
    studio: StudioDep, language: LanguageDep, questions: Annotated[list[Question], Depends(prepare, scope="function")]
) -> Iterable[ChatDeltaRead]:
    """Stream the tuned model's answer, and the original's beside it when `compare`; `target` says whose piece it is."""
    yield from delta_events(inference_service.answer(studio, questions), language)  # type: ignore[misc]


@router.post("/chat", response_class=EventSourceResponse, responses=problems(404, 409))
def chat_with_all(
    studio: StudioDep, language: LanguageDep, questions: Annotated[list[Question], Depends(prepare_all, scope="function")]
) -> Iterable[ChatDeltaRead]:
    """Ask models, jobs and checkpoints the same and stream all answers at once; `target` is the place in the list."""
    yield from delta_events(inference_service.answer(studio, questions), language)  # type: ignore[misc]
