"""A whole step followed in full, and what the device's allocator makes of it."""

import time
from dataclasses import dataclass

from app.contracts.plan import MemoryParts
from app.contracts.trace import Replay, ReplayCall
from app.planner.trace.cuda_allocator import CachingAllocator, ExpandableAllocator, replay
from app.planner.trace.engine_step import MicroShape, follow_step
from app.planner.trace.heap import Heap
from app.planner.trace.stream import PURPOSES, Purpose, Stream

STEPS = 2
"""The first step's holes are part of what the second one finds."""


@dataclass(frozen=True)
class Peak:
    """The highest moment of a stream."""

    live_bytes: int
    event: int
    """Number of the event that reaches it."""
    parts: dict[Purpose, int]


def find_peak(stream: Stream) -> Peak:
    """Return the moment at which most bytes are live."""
    live = highest = 0
    event = -1
    for index, size in enumerate(stream.sizes):
        live += size
        if live > highest:
            highest, event = live, index
    parts = dict.fromkeys(PURPOSES, 0)
    for block, size in zip(stream.ids[: event + 1], stream.sizes[: event + 1], strict=True):
        parts[stream.purposes[block]] += size
    return Peak(highest, event, parts)


def replay_step(call: ReplayCall) -> Replay:
    """Follow two steps of two micro-batches each and replay the device's allocator on them: CUDA's, or a trainer's heap."""
    started = time.perf_counter()
    shape = MicroShape(call.batch, call.length, min(call.labels, call.batch * call.length))
    earlier = shape
    if call.earlier_length is not None:
        earlier = MicroShape(call.batch, call.earlier_length, min(call.labels, call.batch * call.earlier_length))
    on_card = call.request.device == "cuda"
    # On a processor gradients exist from the start and stay (training/memory.py: settle).
    stream = follow_step(call.request, [earlier, shape], steps=STEPS, accumulated=not on_card)
    peak = find_peak(stream)
    if on_card:
        allocator = ExpandableAllocator() if call.expandable else CachingAllocator()
        replay(allocator, stream.ids, stream.sizes)
        allocated, reserved = allocator.allocated_peak, allocator.reserved_peak
    else:
        heap = Heap()
        heap.replay(stream.ids, stream.sizes)
        allocated, reserved = peak.live_bytes, heap.end_peak
    return Replay(
        parts=MemoryParts(**peak.parts, context=0),
        allocated_bytes=allocated,
        reserved_bytes=reserved,
        trace_seconds=time.perf_counter() - started,
    )
