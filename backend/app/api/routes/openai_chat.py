"""POST /v1/chat/completions, POST /v1/completions, GET /v1/models: as OpenAI's clients speak."""

import json
import time
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute

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
from app.services import inference_service, job_service, openai_names
from app.services.inference_service import Question
from app.services.openai_jobs import name_result
from app.services.openai_names import ORGANISATION
from app.services.studio import Studio
from app.services.upstream import Reply
from app.storage.tables import JobRow

router = APIRouter(prefix="/v1", tags=["OpenAI-compatible"], responses=OPENAI_PROBLEMS)
STARTED = int(time.time())
"""Since when models that are not made here are there, as far as this server knows."""


class PassedOn(APIRoute):
    """Lets the upstream server answer for its models, before our own rules judge the request: it may know other fields."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        answer_here = super().get_route_handler()

        async def answer(request: Request) -> Response:
            studio: Studio = request.app.state.studio
            if studio.upstream.is_set:
                path = request.url.path.removeprefix(f"{router.prefix}/")
                reply = await run_in_threadpool(find_reply, studio, path, await request.body())
                if reply is not None:
                    return StreamingResponse(reply.pieces, status_code=reply.status_code, media_type=reply.media_type)
            return await answer_here(request)

        return answer


def find_reply(studio: Studio, path: str, body: bytes) -> Reply | None:
    """Return the upstream's answer, or None where the model is not the upstream's. Raise UpstreamUnreachable."""
    try:
        asked = json.loads(body)
    except ValueError:
        return None
    if not isinstance(asked, dict) or not isinstance(asked.get("model"), str):
        return None
    with studio.database.reading() as session:
        if not openai_names.is_upstreams(studio, session, asked["model"]):
            return None
    return studio.upstream.send(path, body)


passed_on = APIRouter(prefix=router.prefix, tags=router.tags, responses=OPENAI_PROBLEMS, route_class=PassedOn)


@passed_on.post("/chat/completions", response_model=ChatCompletion)
def create_chat_completion(
    body: ChatCompletionRequest, studio: StudioDep, session: SessionDep, language: LanguageDep
) -> ChatCompletion | StreamingResponse:
    """Answer a conversation; `stream` sends the answer piece by piece. It waits while a training holds the device."""
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


@passed_on.post("/completions", response_model=TextCompletion)
def create_completion(
    body: CompletionRequest, studio: StudioDep, session: SessionDep, language: LanguageDep
) -> TextCompletion | StreamingResponse:
    """Go on after a text, or several, without the model's chat template."""
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
    tuned = [_tuned_model(name_result(studio, row), row) for row in openai_names.list_tuned(session)]
    theirs = [
        OpenAIModel(id=name, created=STARTED, owned_by="upstream")
        for name in studio.upstream.list_models()
        if openai_names.is_upstreams(studio, session, name)
    ]
    return OpenAIModelList(data=[*tuned, *ready, *theirs])


@router.get("/models/{model:path}")
def get_openai_model(model: str, studio: StudioDep, session: SessionDep) -> OpenAIModel:
    """Read one model by any name that answers."""
    if openai_names.is_upstreams(studio, session, model):
        return OpenAIModel(id=model, created=STARTED, owned_by="upstream")
    named = openai_names.get_named(studio, session, model)
    openai_names.get_voice(studio, session, named)
    if named.job_id is None:
        return OpenAIModel(id=model, created=STARTED, owned_by="local")
    return _tuned_model(model, job_service.get_job(session, named.job_id))


def _tuned_model(name: str, row: JobRow) -> OpenAIModel:
    return OpenAIModel(id=name, created=unix_seconds(row.finished_at or row.created_at), owned_by=ORGANISATION)
