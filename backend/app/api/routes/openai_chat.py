"""POST /v1/chat/completions, POST /v1/completions, GET /v1/models: as OpenAI's clients speak."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse

from app.api.chat_wording import check_question
from app.api.deps import LanguageDep, SessionDep, StudioDep
from app.api.openai_answers import Writer
from app.api.openai_wording import unix_seconds
from app.api.responses import OPENAI_PROBLEMS
from app.api.schemas.openai_chat import (
    ChatCompletion,
    ChatCompletionRequest,
    CompletionRequest,
    OpenAIModel,
    OpenAIModelList,
    TextCompletion,
)
from app.services import inference_service, openai_names
from app.services.inference_service import Question
from app.services.openai_jobs import name_result
from app.services.openai_names import ORGANISATION
from app.services.studio import Studio

router = APIRouter(prefix="/v1", tags=["OpenAI-compatible"], responses=OPENAI_PROBLEMS)
STARTED = int(time.time())
"""Since when models that are not made here are there, as far as this server knows."""


def pass_on(studio: Studio, path: str, body: dict[str, Any]) -> StreamingResponse:
    """Let the upstream server answer."""
    reply = studio.upstream.send(path, body)
    return StreamingResponse(reply.pieces, status_code=reply.status_code, media_type=reply.media_type)


async def read_body(request: Request) -> dict[str, Any]:
    """Return the request as it came, for the upstream: it may know fields that we do not."""
    body: dict[str, Any] = await request.json()
    return body


RawBody = Annotated[dict[str, Any], Depends(read_body)]


def is_answered_upstream(studio: Studio, session: SessionDep, model: str) -> bool:
    """Whether nobody here has this name and the upstream server lists it."""
    return openai_names.find_named(studio, session, model) is None and model in studio.upstream.list_models()


@router.post("/chat/completions", response_model=ChatCompletion)
def create_chat_completion(
    body: ChatCompletionRequest, raw: RawBody, studio: StudioDep, session: SessionDep, language: LanguageDep
) -> ChatCompletion | StreamingResponse:
    """Answer a conversation; `stream` sends the answer piece by piece. It waits while a training holds the device."""
    if is_answered_upstream(studio, session, body.model):
        return pass_on(studio, "chat/completions", raw)
    messages = [turn.message() for turn in body.messages]
    check_question(messages)
    named = openai_names.get_named(studio, session, body.model)
    voice = openai_names.get_voice(studio, session, named)
    session.close()  # an answer may take minutes
    questions = [
        Question(voice.device_id, voice.command(str(place), generation, messages=messages))
        for place, generation in enumerate(body.generations())
    ]
    writer = Writer("chatcmpl", named.name, [None], len(questions))
    deltas = inference_service.answer(studio, questions)
    if body.stream:
        return StreamingResponse(
            writer.chat_stream(deltas, language, tells_usage=body.tells_usage), media_type="text/event-stream"
        )
    return writer.chat(deltas)


@router.post("/completions", response_model=TextCompletion)
def create_completion(
    body: CompletionRequest, raw: RawBody, studio: StudioDep, session: SessionDep, language: LanguageDep
) -> TextCompletion | StreamingResponse:
    """Go on after a text, or several, without the model's chat template."""
    if is_answered_upstream(studio, session, body.model):
        return pass_on(studio, "completions", raw)
    named = openai_names.get_named(studio, session, body.model)
    voice = openai_names.get_voice(studio, session, named)
    session.close()  # an answer may take minutes
    generations = body.generations()
    questions = [
        Question(voice.device_id, voice.command(str(place * len(generations) + choice), generation, prompt=prompt))
        for place, prompt in enumerate(body.prompts)
        for choice, generation in enumerate(generations)
    ]
    writer = Writer("cmpl", named.name, body.prompts, len(generations))
    deltas = inference_service.answer(studio, questions)
    echo = bool(body.echo)
    if body.stream:
        return StreamingResponse(
            writer.text_stream(deltas, language, tells_usage=body.tells_usage, echo=echo), media_type="text/event-stream"
        )
    return writer.text(deltas, echo=echo)


@router.get("/models")
def list_openai_models(studio: StudioDep, session: SessionDep) -> OpenAIModelList:
    """List who can be asked: models whose weights are here, what jobs have learned, and the upstream's models."""
    ready = [OpenAIModel(id=name, created=STARTED, owned_by="local") for name in openai_names.list_ready_models(studio)]
    tuned = [
        OpenAIModel(id=name_result(studio, row), created=unix_seconds(row.finished_at or row.created_at), owned_by=ORGANISATION)
        for row in openai_names.list_tuned(session)
    ]
    passed_on = [OpenAIModel(id=name, created=STARTED, owned_by="upstream") for name in studio.upstream.list_models()]
    return OpenAIModelList(data=[*tuned, *ready, *passed_on])


@router.get("/models/{model:path}")
def get_openai_model(model: str, studio: StudioDep, session: SessionDep) -> OpenAIModel:
    """Read one model by any name that answers."""
    if is_answered_upstream(studio, session, model):
        return OpenAIModel(id=model, created=STARTED, owned_by="upstream")
    named = openai_names.get_named(studio, session, model)
    openai_names.get_voice(studio, session, named)
    return OpenAIModel(id=model, created=STARTED, owned_by="local" if named.job_id is None else ORGANISATION)
