"""Replay of the heap of a trainer on a processor: glibc's malloc as `jobs/executors/environment.py` sets it.

Large blocks come from one heap that is never given back; freed neighbours are joined at once; the smallest hole that fits
is taken (glibc's bins are sorted by size). So the resident memory is the highest end that the heap ever had. PyTorch asks
for blocks aligned to 64 bytes; each carries a header of 16.
"""

import bisect

ALIGNMENT = 64
HEADER = 16


class Heap:
    """Takes and gives back blocks by id."""

    def __init__(self) -> None:
        self.end = self.end_peak = 0
        """Bytes up to the end of the last block in use; the peak is what stays resident."""
        self._holes: list[tuple[int, int]] = []
        """(size, address), sorted."""
        self._by_start: dict[int, int] = {}
        self._by_end: dict[int, int] = {}
        self._used: dict[object, tuple[int, int]] = {}

    def take(self, key: object, size: int) -> None:
        """Serve a request of `size` bytes under `key`."""
        wanted = -(-(size + HEADER) // ALIGNMENT) * ALIGNMENT
        index = bisect.bisect_left(self._holes, (wanted, -1))
        if index < len(self._holes):
            hole, address = self._holes[index]
            self._fill(hole, address)
            if hole > wanted:
                self._open(hole - wanted, address + wanted)
        else:
            address = self.end
            self.end += wanted
            self.end_peak = max(self.end_peak, self.end)
        self._used[key] = (wanted, address)

    def give_back(self, key: object) -> None:
        """Free the block under `key`; nothing happens for an unknown one."""
        if key not in self._used:
            return
        size, address = self._used.pop(key)
        if address in self._by_end:
            before = self._by_end[address]
            self._fill(before, address - before)
            size, address = size + before, address - before
        if address + size in self._by_start:
            after = self._by_start[address + size]
            self._fill(after, address + size)
            size += after
        if address + size == self.end:
            self.end = address
        else:
            self._open(size, address)

    def _open(self, size: int, address: int) -> None:
        bisect.insort(self._holes, (size, address))
        self._by_start[address] = self._by_end[address + size] = size

    def _fill(self, size: int, address: int) -> None:
        del self._holes[bisect.bisect_left(self._holes, (size, address))]
        del self._by_start[address], self._by_end[address + size]

    def replay(self, ids: list[int], sizes: list[int]) -> None:
        """Follow events (see `app.planner.trace.stream.Stream`)."""
        for block, size in zip(ids, sizes, strict=True):
            if size > 0:
                self.take(block, size)
            else:
                self.give_back(block)
