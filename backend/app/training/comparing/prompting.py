"""What a person would try before training: the same model with an instruction and a few of the training rows as examples."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from app.contracts.dataset import Example, Message

EXAMPLES = 4
ROWS_READ = 5000
"""Training rows among which examples are chosen."""
LONGEST_CHARACTERS = 1200
"""Of one example."""
MOST_CLASSES = 32
INSTRUCTION = (
    "Answer the last message in the way the answers before it were given: the same language, the same form, the same length, "
    "and nothing else."
)
CLASS_INSTRUCTION = "Answer with exactly one of these words and nothing else: {classes}."


@dataclass(frozen=True)
class Prompting:
    """An instruction and examples, put before a question."""

    instruction: str
    shown: list[Example]

    def apply(self, question: Sequence[Message]) -> list[Message]:
        """Return `question` with the instruction as (or after) its system message and the examples as earlier turns."""
        own = [turn.content for turn in question if turn.role == "system"]
        system = Message(role="system", content="\n\n".join([*own, self.instruction]))
        turns = [turn for example in self.shown for turn in example.messages or [] if turn.role != "system"]
        return [system, *turns, *(turn for turn in question if turn.role != "system")]


def make_prompting(train_file: Path, seed: int, *, classes: bool) -> Prompting | None:
    """Return an instruction with examples of the training rows; None where no row is a short conversation.

    With `classes` the instruction lists the answers that occur, where they are few.
    """
    with train_file.open("rb") as lines:
        rows = [Example.model_validate_json(line) for line in islice(lines, ROWS_READ)]
    usable = [
        row for row in rows if is_question(row) and sum(len(turn.content) for turn in row.messages or []) < LONGEST_CHARACTERS
    ]
    if not usable:
        return None
    shown = random.Random(seed).sample(usable, min(EXAMPLES, len(usable)))  # noqa: S311  a choice of rows
    instruction = INSTRUCTION
    if classes:
        names = sorted({(row.messages or [])[-1].content.strip() for row in usable})
        if len(names) <= MOST_CLASSES:
            instruction = CLASS_INSTRUCTION.format(classes=", ".join(names))
    return Prompting(instruction, shown)


def is_question(row: Example) -> bool:
    """Return whether the row asks something and holds the wanted answer."""
    turns = row.messages or []
    return len(turns) > 1 and turns[-1].role == "assistant" and row.desirable is not False and bool(turns[-1].content.strip())
