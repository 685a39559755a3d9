"""Count the tokens of rows under a renderer: what the limited child writes, and what a trainer checks after a download."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, takewhile

from app.contracts.dataset import Example
from app.core.errors import DatasetInvalid
from app.datasets.render import EncodedExample, Renderer
from app.datasets.token_checks import find_ends, holds_template
from app.datasets.tokens import TokenCount, write_count

ANY_LENGTH = 1 << 40
"""Tokens at which nothing is cut."""
BATCH_ROWS = 256
"""Rows that are tokenised together."""


def count_examples(renderer: Renderer, examples: Iterable[Example], first: Sequence[int] | None = None) -> Iterator[TokenCount]:
    """Yield the count of each row; a row that the template cannot write has no tokens.

    `first`: the ids of the file's first row that has any, where `examples` do not begin with it.
    """
    rest = iter(examples)
    while batch := list(islice(rest, BATCH_ROWS)):
        for example, encoded in zip(batch, _encode_longest(renderer, batch), strict=True):
            marked = holds_template(example)
            if encoded is None:
                yield TokenCount(example.row, 0, 0, 0, 0, marked, 0, ())
                continue
            first = encoded.ids if first is None else first
            yield TokenCount(
                row=example.row,
                length=encoded.full_length,
                trained=encoded.trained.count(True),
                shared=sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, encoded.ids, strict=False))),
                starts=sum(1 for _ in takewhile(lambda token: token == renderer.bos_id, encoded.ids)),
                marked=marked,
                answers=encoded.answers,
                ends=tuple(find_ends(encoded.ids, encoded.trained, renderer.stop_ids)),
            )


def count_numbers(renderer: Renderer, examples: Iterable[Example], first: Sequence[int] | None = None) -> "array[int]":
    """Return the numbers of every row's count, one after the other (tokens.write_count)."""
    numbers = array("I")
    for count in count_examples(renderer, examples, first):
        numbers.extend(write_count(count))
    return numbers


def find_first_ids(renderer: Renderer, examples: Iterable[Example]) -> list[int] | None:
    """Return the ids of the first row that the template can write."""
    found = (encoded for example in examples for encoded in _encode_longest(renderer, [example]))
    return next((encoded.ids for encoded in found if encoded is not None), None)


def _encode_longest(renderer: Renderer, examples: Sequence[Example]) -> Iterator[EncodedExample | None]:
    """Yield each row, in preference data with the longer of its answers; None for one that cannot be written."""
    others = [example.model_copy(update={"messages": example.rejected}) for example in examples if example.rejected is not None]
    encoded = renderer.encode_all([*examples, *others], ANY_LENGTH)
    rejected = iter(encoded[len(examples) :])
    for example, kept in zip(examples, encoded, strict=False):
        other = kept if example.rejected is None else next(rejected)
        if isinstance(kept, DatasetInvalid) or isinstance(other, DatasetInvalid):
            yield None
        else:
            yield max(kept, other, key=lambda found: found.full_length)
