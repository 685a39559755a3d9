"""Try the tuned model."""

from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.api.deps import LanguageDep, SessionDep, StudioDep
from app.api.responses import problems
from app.api.schemas.jobs import ChatDeltaRead, ChatRequest
from app.api.wording import chat_delta_read, chat_messages
from app.services import inference_service
from app.services.inference_service import Conversation

router = APIRouter(prefix="/api/jobs", tags=["chat"])


def prepare(job_id: str, body: ChatRequest, studio: StudioDep, session: SessionDep) -> Conversation:
    """Refuse with a status (unknown job, not trained yet, empty question) before the stream begins."""
    return inference_service.prepare(
        studio, session, job_id, messages=chat_messages(body), generation=body.generation, compare=body.compare
    )


@router.post("/{job_id}/chat", response_class=EventSourceResponse, responses=problems(404, 409))
def chat_with_job(
    studio: StudioDep, language: LanguageDep, conversation: Annotated[Conversation, Depends(prepare, scope="function")]
) -> Iterable[ChatDeltaRead]:
    """Stream the tuned model's answer, and the original's when `compare`; `target` says whose piece it is."""
    for delta in inference_service.answer(studio, conversation):
        yield ServerSentEvent(raw_data=chat_delta_read(delta, language).model_dump_json())  # type: ignore[misc]
