"""Lines that pass over the inference worker's socket, one JSON object a line."""

from typing import Annotated, Literal

from pydantic import Field

from app.contracts.dataset import Message
from app.contracts.frozen import Frozen
from app.contracts.options import Quantization


class Generation(Frozen):
    """How an answer is drawn."""

    max_new_tokens: Annotated[int, Field(ge=1, le=4096)] = 200
    temperature: Annotated[float, Field(ge=0, le=5)] = 0.0
    """0 = greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0


class GenerateCommand(Frozen):
    """Answer `messages` with the model in `model_path`, with the adapter in `adapter_path` or without."""

    command: Literal["generate"] = "generate"
    target: str
    """Name that comes back in each delta: `base`, `tuned`, ..."""
    model_path: str
    adapter_path: str | None
    dtype: str
    quantization: Quantization = "none"
    """As in training: an adapter answers as it was trained, and the model needs as little memory."""
    messages: list[Message]
    generation: Generation


class UnloadCommand(Frozen):
    """Free the model: a training needs the device."""

    command: Literal["unload"] = "unload"


class ChatDelta(Frozen):
    """A piece of an answer, or its end (`finished`), or its failure (`error_key`)."""

    target: str
    delta: str = ""
    finished: bool = False
    tokens: int = 0
    seconds: float = 0.0
    waiting: bool = False
    """True while the answer waits for a training that holds the device."""
    error_key: str | None = None
    error_params: dict[str, str] = {}
