"""Label classification as text: the class is the answer. Learned like any answer, judged by how often it is right.

The class that a model gives a text is the one whose words it finds most likely, among the classes of the training rows.
"""

from collections.abc import Sequence
from dataclasses import replace

from app.training.batching import Row
from app.training.gradient import Computer
from app.training.methods.interface import Outcome
from app.training.methods.likelihood import Likelihood

MOST_CLASSES = 32
"""With more, right and wrong are not counted: each held-out row is read once for each class."""
TEXTS_TOGETHER = 64


class Classification(Likelihood):
    """Texts with their classes."""

    def __init__(self, rows: Sequence[Row], trained_tokens: int, classes: Sequence[tuple[int, ...]]) -> None:
        super().__init__(rows, trained_tokens)
        self.classes = classes

    def evaluate(self, compute: Computer) -> Outcome:
        """Return the cross-entropy, and the share of texts whose own class is the likeliest."""
        outcome = super().evaluate(compute)
        if not 1 < len(self.classes) <= MOST_CLASSES:
            return outcome
        starts = range(0, len(self), TEXTS_TOGETHER)
        right = sum(self._count_right(compute, range(start, min(start + TEXTS_TOGETHER, len(self)))) for start in starts)
        return replace(outcome, measures={"accuracy": right / len(self)})

    def _count_right(self, compute: Computer, places: Sequence[int]) -> int:
        rows = self.rows_of(places)
        losses = compute.row_losses([answer(row, name, compute.max_length) for row in rows for name in self.classes])
        count = len(self.classes)
        likeliest = [min(range(count), key=losses[at * count : (at + 1) * count].__getitem__) for at in range(len(rows))]
        return sum(self.classes[found] == class_of(row) for row, found in zip(rows, likeliest, strict=True))


def class_of(row: Row) -> tuple[int, ...]:
    """Return the ids of a row's class: all that is trained."""
    return tuple(row.ids[row.targets[0] :])


def list_classes(rows: Sequence[Row]) -> list[tuple[int, ...]]:
    """Return the classes of the rows; once there are too many, no more are looked for."""
    found: set[tuple[int, ...]] = set()
    for place in range(len(rows)):
        found.add(class_of(rows[place]))
        if len(found) > MOST_CLASSES:
            break
    return sorted(found)


def answer(row: Row, name: tuple[int, ...], max_length: int) -> Row:
    """Return the row's text with the class `name` as its answer; a text that is too long loses its beginning."""
    text = row.ids[: row.targets[0]][-(max_length - len(name)) :]
    return Row([*text, *name], list(range(len(text), len(text) + len(name))), row.row)
