"""Process entry: `python -m app.datasets count ROWS MODEL EVERY` or `show MODEL MAX_LENGTH judged|taught` (tokens.py).

Runs a model's chat template under limits: memory, processor time, and no file may be written. Answers on stdout.
"""

import json
import resource
import sys
from pathlib import Path

from app.contracts.dataset import Example
from app.core.errors import AffinageError
from app.datasets.parallel_counting import WorkerFailed, count_file
from app.datasets.render import Renderer
from app.datasets.tokens import CHILD_SECONDS, REFUSED, ShownRow, ShownToken

MEMORY_BYTES = 3 << 30
"""Address space; a tokenizer with 256,000 entries takes about 1 GiB of it."""


def main(arguments: list[str]) -> int:
    """Run one command; return the exit code."""
    _set_limits()
    try:
        if arguments[0] == "count":
            numbers = count_file(Renderer.load(Path(arguments[2])), Path(arguments[1]), int(arguments[3]))
            sys.stdout.buffer.write(numbers.tobytes())
        else:
            example = Example.model_validate_json(sys.stdin.buffer.read())
            sys.stdout.write(_show(example, Path(arguments[1]), int(arguments[2]), arguments[3] == "judged").model_dump_json())
    except AffinageError as error:
        json.dump({"key": error.key, "params": error.params}, sys.stdout, default=str)
        return REFUSED
    except MemoryError:
        sys.stderr.write("out of memory\n")
        return 1
    except WorkerFailed:
        return 1
    return 0


def _set_limits() -> None:
    seconds = int(CHILD_SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _show(example: Example, model_path: Path, max_length: int, judged: bool) -> ShownRow:
    renderer = Renderer.load(model_path)
    encoded = renderer.encode(example, max_length)
    asked = len(renderer.encode_prompt((example.messages or [])[:-1])) if judged else 0
    tokens = [
        ShownToken(
            id=token,
            text=renderer.decode([token], skip_special=False),
            trained=trained and place >= asked,
            special=renderer.is_special(token),
        )
        for place, (token, trained) in enumerate(zip(encoded.ids, encoded.trained, strict=True))
    ]
    return ShownRow(
        template_name=renderer.template_name, tokens=tokens, full_length=encoded.full_length, fallback=encoded.fallback
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
