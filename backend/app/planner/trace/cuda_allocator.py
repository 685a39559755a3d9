"""Replay of PyTorch's caching allocator for CUDA (c10/cuda/CUDACachingAllocator.cpp): as it is by default, and with segments
that expand (`expandable_segments:True`), as our trainer runs it (jobs/executors/environment.py).

By default:

Requests are rounded up to 512 bytes. Up to 1 MiB they come from segments of 2 MiB, up to 10 MiB from segments of 20 MiB,
larger ones from a segment of their own, rounded up to 2 MiB. The smallest free block that fits is taken and split when
the rest is at least 512 bytes (small) or more than 1 MiB (large); freed neighbours are joined. `allocated` counts whole
blocks, an unsplit rest included, as `torch.cuda.max_memory_allocated` does.

With segments that expand there are two, one for requests up to 1 MiB and one for all others, each as large in addresses as
anyone may need and backed by memory from its beginning up to a mark. Where no free block fits, the mark moves up by as many
granules (2 MiB and 20 MiB) as are missing behind the free block that ends at it; it never moves down unless memory runs
out. That last block can grow, so it is taken only when no other one fits; every rest of 512 bytes or more is split off.
Memory runs out in no replay, hence nothing is ever given back here; the fraction of a card that a process may take, and
other streams, are left out. Checked against the source's rules (tests/unit/planner/test_allocator.py), not yet against a card.
"""

import bisect
from dataclasses import dataclass

KIB = 1 << 10
MIB = 1 << 20
ROUND = 512
SMALL = MIB
SMALL_SEGMENT = 2 * MIB
LARGE_SEGMENT = 20 * MIB
LARGE_ALONE = 10 * MIB
ALONE_ROUND = 2 * MIB
_FAR = 1 << 44
"""Distance between segments in the made-up address space: neighbours in it never join by chance."""


@dataclass(slots=True, eq=False)
class _Block:
    address: int
    size: int
    small: bool
    free: bool = False
    before: "_Block | None" = None
    after: "_Block | None" = None


class CachingAllocator:
    """Takes and gives back blocks by id; keeps the sums that torch reports."""

    def __init__(self) -> None:
        self.allocated = self.allocated_peak = 0
        self.reserved = self.reserved_peak = 0
        self._free: dict[bool, list[tuple[int, int, _Block]]] = {True: [], False: []}
        self._used: dict[object, _Block] = {}
        self._next_address = 0

    def take(self, key: object, size: int) -> None:
        """Serve a request of `size` bytes under `key`."""
        if size <= 0:
            return
        wanted = -(-size // ROUND) * ROUND
        small = wanted <= SMALL
        block = self._find(wanted, small) or self._reserve(wanted, small)
        if self._is_split(block.size - wanted, small):
            self._split(block, wanted)
        block.free = False
        self._used[key] = block
        self.allocated += block.size
        self.allocated_peak = max(self.allocated_peak, self.allocated)

    def give_back(self, key: object) -> None:
        """Free the block under `key`; nothing happens for an unknown one (a request of 0 bytes)."""
        block = self._used.pop(key, None)
        if block is None:
            return
        self.allocated -= block.size
        before, after = block.before, block.after
        if before is not None and before.free:
            self._forget(before)
            block.address = before.address
            block.size += before.size
            block.before = before.before
            if block.before is not None:
                block.before.after = block
        if after is not None and after.free:
            self._forget(after)
            block.size += after.size
            block.after = after.after
            if block.after is not None:
                block.after.before = block
        self._keep(block)

    def reset_peaks(self) -> None:
        """Begin a new measurement, as `torch.cuda.reset_peak_memory_stats` does."""
        self.allocated_peak, self.reserved_peak = self.allocated, self.reserved

    def empty_cache(self) -> None:
        """Give segments without a used block back to the device, as `torch.cuda.empty_cache` does."""
        for small, blocks in self._free.items():
            kept = []
            for entry in blocks:
                block = entry[2]
                if block.before is None and block.after is None:
                    self.reserved -= block.size
                else:
                    kept.append(entry)
            self._free[small] = kept

    def _is_split(self, rest: int, small: bool) -> bool:
        """Return whether what a block has too much becomes a block of its own."""
        return rest >= ROUND if small else rest > SMALL

    def _find(self, wanted: int, small: bool) -> _Block | None:
        blocks = self._free[small]
        index = bisect.bisect_left(blocks, (wanted, -1))
        return blocks.pop(index)[2] if index < len(blocks) else None

    def _reserve(self, wanted: int, small: bool) -> _Block:
        if small:
            size = SMALL_SEGMENT
        elif wanted < LARGE_ALONE:
            size = LARGE_SEGMENT
        else:
            size = -(-wanted // ALONE_ROUND) * ALONE_ROUND
        self.reserved += size
        self.reserved_peak = max(self.reserved_peak, self.reserved)
        block = _Block(self._next_address, size, small)
        self._next_address += _FAR
        return block

    def _split(self, block: _Block, wanted: int) -> None:
        rest = _Block(block.address + wanted, block.size - wanted, block.small, before=block, after=block.after)
        if block.after is not None:
            block.after.before = rest
        block.after = rest
        block.size = wanted
        self._keep(rest)

    def _keep(self, block: _Block) -> None:
        block.free = True
        bisect.insort(self._free[block.small], (block.size, block.address, block))

    def _forget(self, block: _Block) -> None:
        blocks = self._free[block.small]
        index = bisect.bisect_left(blocks, (block.size, block.address))
        del blocks[index]


class ExpandableAllocator(CachingAllocator):
    """The same with `expandable_segments:True`. Its cache is never emptied here."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[bool, _Block | None] = {True: None, False: None}
        """The block of each segment that ends at its mark."""

    def empty_cache(self) -> None:
        """Raise NotImplementedError: whole free pages would be unmapped, which this replay does not follow."""
        raise NotImplementedError

    def _is_split(self, rest: int, small: bool) -> bool:  # noqa: ARG002
        return rest >= ROUND

    def _find(self, wanted: int, small: bool) -> _Block | None:
        blocks = self._free[small]
        index = bisect.bisect_left(blocks, (wanted, -1))
        if index < len(blocks) and blocks[index][2] is self._last[small] and index + 1 < len(blocks):
            index += 1
        return blocks.pop(index)[2] if index < len(blocks) else None

    def _reserve(self, wanted: int, small: bool) -> _Block:
        last = self._last[small]
        granule = SMALL_SEGMENT if small else LARGE_SEGMENT
        end = last.address + last.size if last is not None else 0 if small else _FAR
        usable = last.size if last is not None and last.free else 0
        grown = -(-(wanted - usable) // granule) * granule
        self.reserved += grown
        self.reserved_peak = max(self.reserved_peak, self.reserved)
        if last is not None and last.free:
            self._forget(last)
            last.size += grown
            return last
        block = _Block(end, grown, small, before=last)
        if last is not None:
            last.after = block
        self._last[small] = block
        return block

    def _split(self, block: _Block, wanted: int) -> None:
        super()._split(block, wanted)
        if self._last[block.small] is block:
            self._last[block.small] = block.after

    def give_back(self, key: object) -> None:
        """Free the block under `key`, as without expanding segments."""
        block = self._used.get(key)
        after = block.after if block is not None else None
        super().give_back(key)
        if block is not None and after is not None and after is self._last[block.small] and block.after is None:
            self._last[block.small] = block


def replay(allocator: CachingAllocator, ids: list[int], sizes: list[int]) -> None:
    """Feed events (see `app.planner.trace.stream.Stream`) to the allocator."""
    for block, size in zip(ids, sizes, strict=True):
        if size > 0:
            allocator.take(block, size)
        else:
            allocator.give_back(block)
