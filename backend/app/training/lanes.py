"""Micro-batches side by side on a processor, each on threads of its own.

A step on many threads waits at the end of every operation for the slowest of them, some thousand times a micro-batch.
Micro-batches need nothing of each other: two of them on one core each take 0.67 of the time that they take one after the other
on both cores (embedded model, 8 rows of 60 to 500 tokens, two cores with AMX), and another program on the machine stops only
one of them. Their gradients are added in the order of the micro-batches, so the result does not depend on who was first.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")


@dataclass
class Lanes:
    """So many micro-batches at the same time; 1 = one after the other, on the caller's thread."""

    count: int = 1
    threads: int = 1
    """Of all lanes together."""
    _pool: ThreadPoolExecutor | None = field(default=None, init=False)

    def run(self, work: Callable[[Part], Result], parts: Iterable[Part]) -> Iterator[Result]:
        """Yield `work(part)` in the order of the parts.

        When one fails, the rest is not begun, and its error comes once all that ran have ended.
        """
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="lane")
        share = max(1, self.threads // self.count)

        def run_alone(part: Part) -> Result:
            torch.set_num_threads(share)
            return work(part)

        futures = deque(self._pool.submit(run_alone, part) for part in parts)
        try:
            while futures:
                yield futures.popleft().result()
        finally:
            for future in futures:
                future.cancel()
            wait(futures)
            torch.set_num_threads(self.threads)
