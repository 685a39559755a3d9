"""Answers of the chat worker, put together as OpenAI's clients read them."""

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from app.api.errors import openai_error
from app.api.schemas.openai_chat import (
    AnswerMessage,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChoiceLogprobs,
    ChunkChoice,
    ChunkDelta,
    TextChoice,
    TextCompletion,
    TextLogprobs,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from app.contracts.chat import ChatDelta, FinishReason, Likelihood, TokenLikelihood
from app.core.errors import AffinageError, find_error
from app.core.messages import Language
from app.services.system_service import versions

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
WAITING = ": a training holds the device\n\n"
"""A comment of the event stream: clients pass over it, and the connection does not look dead."""
DONE = "data: [DONE]\n\n"


@dataclass
class Spoken:
    """One choice so far."""

    text: str = ""
    reason: FinishReason = "stop"
    tokens: int = 0
    prompt_tokens: int = 0
    likelihoods: list[TokenLikelihood] = field(default_factory=list)

    def take(self, delta: ChatDelta) -> None:
        """Add a piece. Raise AffinageError when it is a failure."""
        if delta.error_key is not None:
            raise find_error(delta.error_key, delta.error_params)
        self.text += delta.delta
        self.tokens, self.prompt_tokens = delta.tokens, delta.prompt_tokens
        self.likelihoods += delta.likelihoods
        self.reason = delta.finish_reason or self.reason


class Writer:
    """Writes one reply: whole, or chunk by chunk. `places` are prompts, each with `choices` answers."""

    def __init__(self, kind: str, model: str, prompts: Sequence[str | None], choices: int) -> None:
        self._head = {
            "id": f"{kind}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": f"affinage-{versions()['affinage']}",
        }
        self._prompts = prompts
        self._spoken = [Spoken() for _ in range(len(prompts) * choices)]
        self._choices = choices

    def collect(self, deltas: Iterator[ChatDelta]) -> list[Spoken]:
        """Listen to the end. Raise AffinageError when an answer fails."""
        for delta in deltas:
            if not delta.waiting:
                self._spoken[int(delta.target)].take(delta)
        return self._spoken

    def usage(self) -> Usage:
        """Count the tokens; a prompt with several choices counts once."""
        prompt = sum(self._spoken[place * self._choices].prompt_tokens for place in range(len(self._prompts)))
        completion = sum(spoken.tokens for spoken in self._spoken)
        return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)

    def chat(self, deltas: Iterator[ChatDelta]) -> ChatCompletion:
        """Return the whole reply of a chat."""
        choices = [
            ChatChoice(
                index=index,
                message=AnswerMessage(content=spoken.text),
                finish_reason=spoken.reason,
                logprobs=chat_logprobs(spoken.likelihoods),
            )
            for index, spoken in enumerate(self.collect(deltas))
        ]
        return ChatCompletion(**self._head, choices=choices, usage=self.usage())

    def text(self, deltas: Iterator[ChatDelta], *, echo: bool) -> TextCompletion:
        """Return the whole reply of a text completion."""
        choices = [
            TextChoice(
                index=index,
                text=((self._prompts[index // self._choices] or "") if echo else "") + spoken.text,
                finish_reason=spoken.reason,
                logprobs=text_logprobs(spoken.likelihoods, 0),
            )
            for index, spoken in enumerate(self.collect(deltas))
        ]
        return TextCompletion(**self._head, choices=choices, usage=self.usage())

    def chat_stream(self, deltas: Iterator[ChatDelta], language: Language, *, tells_usage: bool) -> Iterator[str]:
        """Yield the reply of a chat as the lines of an event stream."""

        def chunk(
            index: int, delta: ChunkDelta, reason: FinishReason | None = None, tokens: Sequence[TokenLikelihood] = ()
        ) -> str:
            choice = ChunkChoice(index=index, delta=delta, finish_reason=reason, logprobs=chat_logprobs(tokens))
            return _line(ChatChunk(**self._head, choices=[choice]), tells_usage)

        for index in range(len(self._spoken)):
            yield chunk(index, ChunkDelta(role="assistant", content=""))
        try:
            for delta in deltas:
                if delta.waiting:
                    yield WAITING
                    continue
                index = int(delta.target)
                self._spoken[index].take(delta)
                if delta.delta or delta.likelihoods:
                    yield chunk(index, ChunkDelta(content=delta.delta), tokens=delta.likelihoods)
                if delta.finished:
                    yield chunk(index, ChunkDelta(), self._spoken[index].reason)
        except AffinageError as problem:
            yield _failure(problem, language)
            return
        if tells_usage:
            yield _line(ChatChunk(**self._head, choices=[], usage=self.usage()), tells_usage)
        yield DONE

    def text_stream(self, deltas: Iterator[ChatDelta], language: Language, *, tells_usage: bool, echo: bool) -> Iterator[str]:
        """Yield the reply of a text completion as the lines of an event stream."""

        def chunk(index: int, text: str, reason: FinishReason | None = None, logprobs: TextLogprobs | None = None) -> str:
            choice = TextChoice(index=index, text=text, finish_reason=reason, logprobs=logprobs)
            return _line(TextCompletion(**self._head, choices=[choice]), tells_usage)

        if echo:
            for index in range(len(self._spoken)):
                yield chunk(index, self._prompts[index // self._choices] or "")
        try:
            for delta in deltas:
                if delta.waiting:
                    yield WAITING
                    continue
                index = int(delta.target)
                before = len(self._spoken[index].text)
                self._spoken[index].take(delta)
                if delta.delta or delta.likelihoods:
                    yield chunk(index, delta.delta, logprobs=text_logprobs(delta.likelihoods, before))
                if delta.finished:
                    yield chunk(index, "", self._spoken[index].reason)
        except AffinageError as problem:
            yield _failure(problem, language)
            return
        if tells_usage:
            yield _line(TextCompletion(**self._head, choices=[], usage=self.usage()), tells_usage)
        yield DONE


def chat_logprobs(likelihoods: Sequence[TokenLikelihood]) -> ChoiceLogprobs | None:
    """Return log-probabilities as a chat tells them; None where there are none."""
    if not likelihoods:
        return None
    return ChoiceLogprobs(
        content=[
            TokenLogprob(**_logprob(found).model_dump(), top_logprobs=[_logprob(other) for other in found.top])
            for found in likelihoods
        ]
    )


def text_logprobs(likelihoods: Sequence[TokenLikelihood], offset: int) -> TextLogprobs | None:
    """Return log-probabilities as a text completion tells them; `offset`: characters before the first token."""
    if not likelihoods:
        return None
    offsets = []
    for found in likelihoods:
        offsets.append(offset)
        offset += len(found.text)
    return TextLogprobs(
        tokens=[found.text for found in likelihoods],
        token_logprobs=[found.logprob for found in likelihoods],
        top_logprobs=[{other.text: other.logprob for other in found.top} for found in likelihoods],
        text_offset=offsets,
    )


def _logprob(found: Likelihood) -> TopLogprob:
    whole = REPLACEMENT not in found.text
    return TopLogprob(token=found.text, logprob=found.logprob, bytes=list(found.text.encode()) if whole else None)


def _line(body: ChatChunk | TextCompletion, tells_usage: bool) -> str:
    """Return one `data:`; `usage` is a field of every chunk only where it was asked for."""
    return f"data: {body.model_dump_json(exclude=None if tells_usage else {'usage'})}\n\n"


def _failure(problem: AffinageError, language: Language) -> str:
    return f"data: {openai_error(problem, language).model_dump_json()}\n\n"
