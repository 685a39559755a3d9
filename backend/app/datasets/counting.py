"""Count the tokens of rows under a renderer: what the limited child writes, and what a trainer checks after a download."""

from collections.abc import Iterable, Iterator
from itertools import takewhile

from app.contracts.dataset import Example
from app.core.errors import DatasetInvalid
from app.datasets.render import EncodedExample, Renderer
from app.datasets.token_checks import find_ends, holds_template
from app.datasets.tokens import TokenCount

ANY_LENGTH = 1 << 40
"""Tokens at which nothing is cut."""


def count_examples(renderer: Renderer, examples: Iterable[Example]) -> Iterator[TokenCount]:
    """Yield the count of each row; a row that the template cannot write has no tokens."""
    first: list[int] | None = None
    for example in examples:
        marked = holds_template(example)
        try:
            encoded = _encode_longest(renderer, example)
        except DatasetInvalid:
            yield TokenCount(example.row, 0, 0, 0, 0, marked, 0, ())
            continue
        first = encoded.ids if first is None else first
        yield TokenCount(
            row=example.row,
            length=encoded.full_length,
            trained=sum(encoded.trained),
            shared=sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, encoded.ids, strict=False))),
            starts=sum(1 for _ in takewhile(lambda token: token == renderer.bos_id, encoded.ids)),
            marked=marked,
            answers=encoded.answers,
            ends=tuple(find_ends(encoded.ids, encoded.trained, renderer.stop_ids)),
        )


def _encode_longest(renderer: Renderer, example: Example) -> EncodedExample:
    """Return the row, in preference data with the longer of its answers."""
    encoded = renderer.encode(example, ANY_LENGTH)
    if example.rejected is None:
        return encoded
    other = renderer.encode(example.model_copy(update={"messages": example.rejected}), ANY_LENGTH)
    return max(encoded, other, key=lambda found: found.full_length)
