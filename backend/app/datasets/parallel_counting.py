"""Count the rows of a file in several processes, which share one tokenizer by forking.

Rendering is Python and does not run beside itself in threads. Only for a process without threads: the limited child.
"""

import ctypes
import os
import signal
import sys
import traceback
from array import array
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import IO, NoReturn

from app.contracts.dataset import Example
from app.datasets.counting import BATCH_ROWS, count_numbers, find_first_ids
from app.datasets.render import Renderer

MOST_PROCESSES = 4
FEWEST_ROWS = 4 * BATCH_ROWS
"""Fewer rows are counted sooner by one process."""
_LENGTH_BYTES = 4
_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of <linux/prctl.h>."""


class WorkerFailed(Exception):
    """A process ended early; its reason stands on stderr."""


def count_file(renderer: Renderer, rows_file: Path, every: int) -> "array[int]":
    """Return the numbers of every `every`-th row's count, in order. Raise WorkerFailed."""
    processes = min(MOST_PROCESSES, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    with rows_file.open("rb") as file:
        rows = sum(1 for _ in islice(file, 0, FEWEST_ROWS * every, every))
    if processes == 1 or rows < FEWEST_ROWS:
        return count_numbers(renderer, _read(rows_file, every))
    first = find_first_ids(renderer, _read(rows_file, every))
    workers = [_start(renderer, rows_file, every, first, part, processes) for part in range(processes)]
    numbers = array("I")
    try:
        for batch in count():
            answers = workers[batch % processes][1]
            length = int.from_bytes(answers.read(_LENGTH_BYTES), "little")
            if not length:
                break
            numbers.frombytes(answers.read(length))
    finally:
        for _, answers in workers:
            answers.close()
        ended = [os.waitpid(process, 0)[1] for process, _ in workers]
    if any(ended):
        raise WorkerFailed
    return numbers


def _read(rows_file: Path, every: int) -> Iterator[Example]:
    with rows_file.open("rb") as file:
        yield from map(Example.model_validate_json, islice(file, 0, None, every))


def _start(  # noqa: PLR0917 - what is counted, and which part of it
    renderer: Renderer, rows_file: Path, every: int, first: list[int] | None, part: int, parts: int
) -> tuple[int, IO[bytes]]:
    """Start the process that counts the batches `part`, `part` + `parts`, ...; return its id and what it will say."""
    reading, writing = os.pipe()
    parent = os.getpid()
    process = os.fork()
    if process:
        os.close(writing)
        return process, os.fdopen(reading, "rb")
    os.close(reading)
    _work(renderer, rows_file, every, first, part, parts, writing, parent)


def _work(  # noqa: PLR0917 - as _start
    renderer: Renderer, rows_file: Path, every: int, first: list[int] | None, part: int, parts: int, writing: int, parent: int
) -> NoReturn:
    """Count, answer and end: a forked process runs nothing of what its parent still has to do."""
    status = 1
    try:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        with rows_file.open("rb") as file, os.fdopen(writing, "wb") as answers:
            lines = islice(file, 0, None, every)
            for batch in count():
                given = list(islice(lines, BATCH_ROWS))
                if not given or os.getppid() != parent:
                    break
                if batch % parts == part:
                    numbers = count_numbers(renderer, map(Example.model_validate_json, given), first).tobytes()
                    answers.write(len(numbers).to_bytes(_LENGTH_BYTES, "little") + numbers)
        status = 0
    except MemoryError:
        sys.stderr.write("out of memory\n")
    except BrokenPipeError:  # another one has failed and says so
        pass
    except Exception:  # noqa: BLE001 - the process entry
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)
