"""Chat and text completions as OpenAI's clients send and read them.

What a field means: OpenAI's API reference, sections Chat Completions and Completions. A field that would change the answer and
that we cannot follow is refused, like one that nobody knows; those that change no answer here are named and passed over.
"""

import random
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from app.contracts.chat import MOST_LOGPROBS, MOST_STOPS, FinishReason, Generation, StopText
from app.contracts.dataset import Message, Role

MOST_TOKENS = 4096
"""Longest answer."""
MOST_CHOICES = 16
LEGACY_TOKENS = 16
"""Length of a text completion when nothing is said, as in OpenAI's reference."""

V = TypeVar("V")


def _refuse(value: V) -> V:
    if value:
        raise PydanticCustomError("not_followed", "cannot be followed here")
    return value


NotFollowed = Annotated[V, AfterValidator(_refuse)]
"""A field that would change the answer and that cannot be followed: only an empty value is taken."""


class StreamOptions(BaseModel):
    """What a stream tells besides the answer."""

    include_usage: bool = False


class Part(BaseModel):
    """A piece of a turn; only text can be read here."""

    type: Literal["text", "input_text"]
    text: str


class Turn(BaseModel):
    """One turn of a conversation: what a person wrote, or an answer as it was given here before."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    name: str | None = None
    """Passed over: no template has a place for it; so with the next two."""
    tool_call_id: str | None = None
    annotations: list[object] | None = None
    tool_calls: NotFollowed[list[object] | None] = None
    function_call: NotFollowed[dict[str, object] | None] = None
    refusal: NotFollowed[str | None] = None
    audio: NotFollowed[dict[str, object] | None] = None

    def message(self) -> Message:
        """Return the turn in this house's words: a developer speaks as the system, a function as a tool."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content or [])
        roles: dict[str, Role] = {"developer": "system", "function": "tool"}
        return Message(role=roles.get(self.role, self.role), content=text)


class Sampling(BaseModel):
    """How answers are drawn: common to chats and texts."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, max_length=600)
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=MOST_STOPS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: NotFollowed[dict[str, float] | None] = None
    user: str | None = None
    """Passed over: it changes no answer."""

    def draws(self, most_tokens: int, logprobs: int | None) -> list[Generation]:
        """Return how each choice is drawn; without a seed, by chance; choice i has the seed `seed + i`."""
        seed = random.getrandbits(31) if self.seed is None else self.seed
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [
            Generation(
                max_new_tokens=min(most_tokens, MOST_TOKENS),
                temperature=1.0 if self.temperature is None else self.temperature,
                top_p=1.0 if self.top_p is None else self.top_p,
                seed=(seed + place) % 2**31,
                stop=stops,
                presence_penalty=self.presence_penalty or 0.0,
                frequency_penalty=self.frequency_penalty or 0.0,
                logprobs=logprobs,
            )
            for place in range(self.n or 1)
        ]

    @property
    def tells_usage(self) -> bool:
        """Whether a stream ends with the count of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage


class TextFormat(BaseModel):
    """The only form of an answer that can be promised here."""

    type: Literal["text"]


class ChatCompletionRequest(Sampling):
    """Body of POST /v1/chat/completions."""

    messages: list[Turn] = Field(min_length=1, max_length=1000)
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    response_format: TextFormat | None = None
    tools: NotFollowed[list[object] | None] = None
    functions: NotFollowed[list[object] | None] = None
    tool_choice: Literal["none", "auto"] | None = None
    """Without tools both mean the same; so with the next."""
    function_call: Literal["none", "auto"] | None = None
    modalities: list[Literal["text"]] | None = None
    audio: NotFollowed[dict[str, object] | None] = None
    verbosity: Literal["medium"] | None = None
    reasoning_effort: Literal["none"] | None = None
    parallel_tool_calls: bool | None = None
    """Passed over, like all that follow: they change no answer."""
    store: bool | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prediction: dict[str, object] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, object] | None = None
    prompt_cache_retention: str | None = None

    @field_validator("top_logprobs")
    @classmethod
    def _needs_logprobs(cls, value: int | None, known: ValidationInfo) -> int | None:
        if value is not None and not known.data.get("logprobs"):
            raise PydanticCustomError("needs_logprobs", "needs logprobs: true")
        return value

    def generations(self) -> list[Generation]:
        """Return how each choice is drawn."""
        return self.draws(
            self.max_completion_tokens or self.max_tokens or MOST_TOKENS, (self.top_logprobs or 0) if self.logprobs else None
        )


class CompletionRequest(Sampling):
    """Body of POST /v1/completions."""

    prompt: Annotated[str, Field(max_length=400_000)] | Annotated[list[str], Field(min_length=1, max_length=MOST_CHOICES)] = ""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    echo: bool | None = None
    suffix: NotFollowed[str | None] = None
    best_of: Annotated[int, Field(ge=1, le=1)] | None = None
    """Not supported beyond 1."""

    @field_validator("echo")
    @classmethod
    def _tells_no_prompt(cls, value: bool | None, known: ValidationInfo) -> bool | None:
        """Refuse both: with `echo` the prompt's tokens belong to the log-probabilities, and these are not computed."""
        if value and known.data.get("logprobs") is not None:
            raise PydanticCustomError("echo_logprobs", "cannot go with logprobs")
        return value

    @property
    def prompts(self) -> list[str]:
        """The texts to go on after."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt

    def generations(self) -> list[Generation]:
        """Return how each choice is drawn."""
        return self.draws(self.max_tokens or LEGACY_TOKENS, self.logprobs)


class Usage(BaseModel):
    """Tokens of all choices together; the prompt counts once."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TopLogprob(BaseModel):
    """A token that was likely in this place."""

    token: str
    logprob: float
    bytes: list[int] | None
    """UTF-8; None for a token that is only a part of a character."""


class TokenLogprob(TopLogprob):
    """A token of the answer."""

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(BaseModel):
    """The log-probabilities of an answer's tokens."""

    content: list[TokenLogprob]
    refusal: None = None


class AnswerMessage(BaseModel):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: AnswerMessage
    finish_reason: FinishReason
    logprobs: ChoiceLogprobs | None = None


class ChatCompletion(BaseModel):
    """Answer of POST /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str


class ChunkDelta(BaseModel):
    """What is new since the chunk before."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(BaseModel):
    """A piece of one answer."""

    index: int
    delta: ChunkDelta
    finish_reason: FinishReason | None = None
    logprobs: ChoiceLogprobs | None = None


class ChatChunk(BaseModel):
    """One `data:` of a streamed chat."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    system_fingerprint: str


class TextLogprobs(BaseModel):
    """The log-probabilities of a text's tokens, as POST /v1/completions tells them."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(BaseModel):
    """One continuation, or a piece of one."""

    index: int
    text: str
    finish_reason: FinishReason | None
    logprobs: TextLogprobs | None = None


class TextCompletion(BaseModel):
    """Answer of POST /v1/completions, and one `data:` of its stream."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | None = None
    system_fingerprint: str


class OpenAIModel(BaseModel):
    """A model that can be asked."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class OpenAIModelList(BaseModel):
    """Answer of GET /v1/models."""

    object: Literal["list"] = "list"
    data: list[OpenAIModel]
