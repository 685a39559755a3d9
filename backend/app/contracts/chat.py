"""Lines that pass over the inference worker's socket, one JSON object a line."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from app.contracts.dataset import Message
from app.contracts.frozen import Frozen
from app.contracts.job import Lora
from app.contracts.options import Quantization

MOST_STOPS = 4
MOST_LOGPROBS = 20

FinishReason = Literal["stop", "length"]
StopText = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Generation(Frozen):
    """How an answer is drawn."""

    max_new_tokens: Annotated[int, Field(ge=1, le=4096)] = 200
    temperature: Annotated[float, Field(ge=0, le=5)] = 0.0
    """0 = greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    stop: Annotated[list[StopText], Field(max_length=MOST_STOPS)] = []
    """Texts before which the answer ends."""
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    """Taken from a token's score for each time it was said in this answer."""
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    """Taken once from the score of each token that was said in this answer."""
    logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    """Tell each token's log-probability, and those of so many likeliest tokens in its place; None = tell nothing."""


class GenerateCommand(Frozen):
    """Answer `messages`, or go on after `prompt`, with the model in `model_path`, with the adapter in `adapter_path` if any."""

    command: Literal["generate"] = "generate"
    target: str
    """Name that comes back in each delta: `base`, `tuned`, ..."""
    model_path: str
    adapter_path: str | None
    """A folder in PEFT's format, or a checkpoint of a job."""
    lora: Lora | None = None
    """The adapter's shape where `adapter_path` is a checkpoint, which does not tell it itself."""
    dtype: str
    quantization: Quantization = "none"
    """As in training: an adapter answers as it was trained, and the model needs as little memory."""
    messages: list[Message] = []
    prompt: str | None = None
    """Plain text to go on after, without the model's chat template."""
    generation: Generation

    @model_validator(mode="after")
    def _asks_one_thing(self) -> "GenerateCommand":
        if bool(self.messages) == (self.prompt is not None):
            raise ValueError("either messages or a prompt")
        return self


class UnloadCommand(Frozen):
    """Free the model: a training needs the device."""

    command: Literal["unload"] = "unload"


class Likelihood(Frozen):
    """One token and how likely the model found it."""

    text: str
    """Alone it may be only a part of a character: then it holds U+FFFD."""
    logprob: float
    """Natural logarithm of the model's probability at temperature 1."""


class TokenLikelihood(Likelihood):
    """A token of the answer, and the likeliest in its place."""

    top: list[Likelihood]
    """Likeliest first."""


class ChatDelta(Frozen):
    """A piece of an answer, or its end (`finished`), or its failure (`error_key`)."""

    target: str
    delta: str = ""
    finished: bool = False
    tokens: int = 0
    seconds: float = 0.0
    prompt_tokens: int = 0
    finish_reason: FinishReason | None = None
    """With `finished`: the model ended its answer or a stop text came (`stop`), or the length was reached."""
    likelihoods: list[TokenLikelihood] = []
    """With `logprobs`: the tokens since the delta before."""
    waiting: bool = False
    """True while the answer waits for a training that holds the device."""
    error_key: str | None = None
    error_params: dict[str, str] = {}
