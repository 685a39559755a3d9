"""Preference data as rows: of a conversation only its last answer is trained, and it is wanted or not."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.contracts.dataset import Example, Message
from app.core.errors import DatasetInvalid, Invalid
from app.datasets.render import Renderer
from app.training.batching import Row


@dataclass(frozen=True, slots=True)
class JudgedRows:
    """The rows of one example: a pair, the preferred answer first, or one judged answer."""

    rows: list[Row]
    """Empty when the cut left nothing of an answer."""
    too_long: bool


def encode_judged(renderer: Renderer, example: Example, max_length: int) -> JudgedRows:
    """Return the example's rows, cut at `max_length`. Raises DatasetInvalid where the template cannot write them."""
    messages = example.messages or []
    answers = [(messages, example.desirable is not False)]
    if example.rejected is not None:
        answers.append((example.rejected, False))
    rows: list[Row] = []
    too_long = False
    for turns, desired in answers:
        encoded = renderer.encode(example.model_copy(update={"messages": turns}), max_length)
        too_long = too_long or encoded.full_length > max_length
        asked = _count_asked(renderer, turns, example.row)
        targets = [place for place, trained in enumerate(encoded.trained) if trained and place >= max(1, asked)]
        if targets:
            rows.append(Row(encoded.ids[: targets[-1] + 1], targets, example.row, desired))
    return JudgedRows(rows if len(rows) == len(answers) else [], too_long)


def _count_asked(renderer: Renderer, turns: Sequence[Message], row: int) -> int:
    """Return the tokens before the last answer: the same that a chat would begin with."""
    try:
        return len(renderer.encode_prompt(turns[:-1]))
    except Invalid as error:
        raise DatasetInvalid("not_renderable", row=row, reason=str(error.params.get("reason", ""))) from error
