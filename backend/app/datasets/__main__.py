"""Process entry: `python -m app.datasets count ROWS MODEL EVERY` or `show MODEL MAX_LENGTH` (see tokens.py).

Runs a model's chat template under limits: memory, processor time, and no file may be written. Answers on stdout.
"""

import json
import resource
import sys
from array import array
from itertools import islice, takewhile
from pathlib import Path

from app.contracts.dataset import Example
from app.core.errors import AffinageError, DatasetInvalid
from app.datasets.render import EncodedExample, Renderer
from app.datasets.tokens import CHILD_SECONDS, REFUSED, ShownRow, ShownToken

MEMORY_BYTES = 3 << 30
"""Address space; a tokenizer with 256,000 entries takes about 1 GiB of it."""

ANY_LENGTH = sys.maxsize


def main(arguments: list[str]) -> int:
    """Run one command; return the exit code."""
    _set_limits()
    try:
        if arguments[0] == "count":
            sys.stdout.buffer.write(_count(Path(arguments[1]), Path(arguments[2]), int(arguments[3])).tobytes())
        else:
            example = Example.model_validate_json(sys.stdin.buffer.read())
            sys.stdout.write(_show(example, Path(arguments[1]), int(arguments[2])).model_dump_json())
    except AffinageError as error:
        json.dump({"key": error.key, "params": error.params}, sys.stdout, default=str)
        return REFUSED
    except MemoryError:
        sys.stderr.write("out of memory\n")
        return 1
    return 0


def _set_limits() -> None:
    seconds = int(CHILD_SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _count(rows_file: Path, model_path: Path, every: int) -> "array[int]":
    """Return the numbers of a TokenCount for every `every`-th row, one after the other; zeros for a refused row."""
    renderer = Renderer.load(model_path)
    numbers = array("I")
    first: list[int] | None = None
    with rows_file.open("rb") as file:
        for line in islice(file, 0, None, every):
            try:
                encoded = _encode_longest(renderer, Example.model_validate_json(line))
            except DatasetInvalid:
                numbers.extend((0, 0, 0))
                continue
            first = encoded.ids if first is None else first
            shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, encoded.ids, strict=False)))
            numbers.extend((encoded.full_length, sum(encoded.trained), shared))
    return numbers


def _encode_longest(renderer: Renderer, example: Example) -> EncodedExample:
    """Return the row, in preference data with the longer of its answers."""
    encoded = renderer.encode(example, ANY_LENGTH)
    if example.rejected is None:
        return encoded
    other = renderer.encode(example.model_copy(update={"messages": example.rejected}), ANY_LENGTH)
    return max(encoded, other, key=lambda found: found.full_length)


def _show(example: Example, model_path: Path, max_length: int) -> ShownRow:
    renderer = Renderer.load(model_path)
    encoded = renderer.encode(example, max_length)
    tokens = [
        ShownToken(id=token, text=renderer.decode([token], skip_special=False), trained=trained)
        for token, trained in zip(encoded.ids, encoded.trained, strict=True)
    ]
    return ShownRow(template_name=renderer.template_name, tokens=tokens, full_length=encoded.full_length)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
