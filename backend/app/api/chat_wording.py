"""Questions as they are asked, and pieces of answers as they are told."""

from collections.abc import Iterable, Iterator

from fastapi.sse import ServerSentEvent

from app.api.schemas.chat import ChatDeltaRead
from app.api.schemas.errors import ErrorContent
from app.api.wording import notice_read
from app.contracts.chat import ChatDelta
from app.contracts.dataset import Message
from app.core.errors import Invalid
from app.core.messages import Language


def read_turns(messages: list[Message] | None, prompt: str | None) -> list[Message]:
    """Return the turns of a chat request: `messages`, or `prompt` as the one question. Raise Invalid."""
    if (messages is None) == (prompt is None):
        raise Invalid("messages_or_prompt")
    turns = messages if messages is not None else [Message(role="user", content=prompt or "")]
    check_question(turns)
    return turns


def check_question(turns: list[Message]) -> None:
    """Raise Invalid unless the conversation ends with something to answer."""
    if not turns or not turns[-1].content.strip() or turns[-1].role == "assistant":
        raise Invalid("no_question")


def delta_events(deltas: Iterable[ChatDelta], language: Language) -> Iterator[ServerSentEvent]:
    """Return the pieces as events of a stream."""
    for delta in deltas:
        yield ServerSentEvent(raw_data=chat_delta_read(delta, language).model_dump_json())


def chat_delta_read(delta: ChatDelta, language: Language) -> ChatDeltaRead:
    """Return a piece of an answer, a failure with its sentence."""
    error = None
    if delta.error_key:
        notice = notice_read(delta.error_key, delta.error_params, language)
        error = ErrorContent(code=notice.code, message=notice.message, hint=notice.hint)
    return ChatDeltaRead(**delta.model_dump(), error=error)
