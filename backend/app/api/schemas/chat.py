"""What the chat routes take and answer."""

from pydantic import BaseModel, Field, model_validator

from app.api.schemas.errors import ErrorContent
from app.contracts.chat import MOST_STOPS, ChatDelta, Generation, StopText
from app.contracts.dataset import Message

MOST_TURNS = 200
MOST_TARGETS = 8


class Drawing(BaseModel):
    """How an answer is drawn, and what is asked: `messages`, or `prompt` as the one question."""

    messages: list[Message] | None = Field(default=None, max_length=MOST_TURNS)
    prompt: str | None = Field(default=None, max_length=100_000)
    max_new_tokens: int = Field(default=200, ge=1, le=4096)
    temperature: float = Field(default=0.0, ge=0, le=5)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    stop: list[StopText] = Field(default=[], max_length=MOST_STOPS)

    @property
    def generation(self) -> Generation:
        """The part that the inference worker needs."""
        return Generation(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            stop=self.stop,
        )


class ChatRequest(Drawing):
    """Ask the tuned model, and the original beside it when `compare`."""

    compare: bool = False


class ChatTarget(BaseModel):
    """Who is asked: a model as it is, or what a job has learned."""

    model: str | None = Field(default=None, min_length=1, max_length=600)
    """A model id of the catalogue or the hub, or a local folder; its weights must be on this machine."""
    job_id: str | None = Field(default=None, min_length=1, max_length=200)
    checkpoint: str | None = Field(default=None, min_length=1, max_length=100)
    """One of the job's checkpoints by name; absent = the finished adapter."""
    messages: list[Message] | None = Field(default=None, max_length=MOST_TURNS)
    """The conversation with this one so far, its own answers in it; absent = what all are asked."""

    @model_validator(mode="after")
    def _names_one(self) -> "ChatTarget":
        if (self.model is None) == (self.job_id is None) or (self.checkpoint is not None and self.job_id is None):
            raise ValueError("either model, or job_id with or without checkpoint")
        return self


class ChatAllRequest(Drawing):
    """Ask several models the same; each answers as soon as it can, beside the others."""

    targets: list[ChatTarget] = Field(min_length=1, max_length=MOST_TARGETS)


class ChatDeltaRead(ChatDelta):
    """The `data:` of a chat: a piece of an answer, its end, or its failure.

    `target` is `tuned` or `base` for a job's chat, and the place among `targets` (`0`, `1`, ...) for POST /api/chat.
    """

    error: ErrorContent | None = None
    """The failure in the reader's language, when `error_key` is set."""
