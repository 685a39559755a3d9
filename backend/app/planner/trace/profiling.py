"""From a few small traces to a profile that holds for every micro-batch, and for the model's real number of blocks.

1. A model cut to two blocks and one cut to three are followed at nine shapes each. Every event of a stream has the same
   meaning in all nine, and its live bytes are affine in the terms of `Affine`: least squares gives the coefficients.
   The loss runs through its chunks in a loop: what it adds to its beginning is fitted for one chunk and for several.
2. The longer model's stream is the shorter one's with one more block in the middle of each pass. Live bytes in what
   comes before, in the first, in the last block and after grow by the same step with each further block; in a middle
   block they lie between its neighbours', so no peak is missed.
3. Of all events, those are kept that are the highest one for some shape: a handful.
"""

import time
from collections import defaultdict
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import transformers

from app.contracts.trace import Affine, Hump, Labels, Phase, StepCosts, TraceProfile, TraceRequest
from app.planner.trace.costs import Costs
from app.planner.trace.engine_step import EngineStep, MicroShape, count_layers, read_config
from app.planner.trace.kernels import as_on
from app.planner.trace.linears import check_blocks
from app.planner.trace.stream import AFTER, BEFORE, PURPOSES, Stream
from app.planner.traced import count_terms

Array = npt.NDArray[np.float64]
Spot = Literal["before", "first", "middle", "last", "after"]
Segment = tuple[Phase, Spot, Labels]

FEW, MORE = 2, 3
"""Blocks of the two models that are followed."""
TERMS = tuple(Affine.model_fields)
_LOSS_TERMS = [TERMS.index(name) for name in ("constant", "per_token", "per_label")]
_LAUNCH_TERMS = [TERMS.index(name) for name in ("constant", "per_label")]
GRID_ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128)
GRID_SHARES = (0.02, 0.1, 0.3, 0.6, 1.0)
"""Micro-batches and shares of labelled tokens for which a highest event is looked for."""
GRID_LENGTHS = 12
PACKED_SHARES = (1.0, 0.5, 0.75, 0.625)
"""Tokens of packed micro-batches as shares of their places."""
ROUND_LENGTH = 32
"""CUDA's memory-efficient attention pads its statistics to so many tokens: between, nothing is affine."""
LEAST_LENGTH = 32
"""Shortest length that is traced: below, sizes are ruled by what does not grow."""


@dataclass(frozen=True)
class _Followed:
    """One trace: live bytes by purpose, (events, purposes), by segment, each beginning with the state before it."""

    live: dict[Segment, Array]
    shape: MicroShape


Fits = dict[Segment, Array]
"""Coefficients of every event: (events, purposes, terms)."""


def trace_profile(request: TraceRequest) -> TraceProfile:
    """Return the profile of one variant. Raises AffinageError subclasses for what cannot be traced."""
    started = time.perf_counter()
    config = read_config(request.config)
    layers = count_layers(config)
    check_blocks(config)
    with as_on(request.device, request.compute_capability):
        few = EngineStep(request, min(FEW, layers))
        packed = few.built.head.packs
        shapes = choose_shapes(request, few.built.head.chunk_rows, packed=packed)
        short, work = _follow(few, shapes)
        events = _fit_all(short)
        costs = {name: _fit_costs(item, shapes) for name, item in work.items()}
        params, adapter_params = few.params, few.adapter_params
        if layers > FEW:
            more = EngineStep(request, MORE)
            long, more_work = _follow(more, shapes)
            further = layers - FEW
            params += further * (more.params - few.params)
            adapter_params += further * (more.adapter_params - few.adapter_params)
            events = _extend(events, _fit_all(long), further)
            costs = {name: _fit_costs(item, shapes, more_work[name], further) for name, item in work.items()}
    return TraceProfile(
        request=request,
        layers=layers,
        params=params,
        adapter_params=adapter_params,
        chunk_rows=max(1, few.built.head.chunk_rows),
        packed=packed,
        humps=_keep_highest(events, request, few.built.head.chunk_rows, packed=packed),
        micro=costs["micro"],
        evaluation=costs["evaluation"],
        update=costs["update"],
        trace_seconds=time.perf_counter() - started,
        versions={"torch": torch.__version__, "transformers": transformers.__version__},
    )


def choose_shapes(request: TraceRequest, chunk_rows: int, *, packed: bool) -> list[MicroShape]:
    """Return nine micro-batches that tell all terms of `Affine` apart, inside the lengths that the request covers.

    Several rows each: with a single one some copies fall away. Labels below and above what the loss takes at a time.
    Packed ones have fewer tokens than places, by different shares; in padded ones the two are the same.
    """
    low = min(-(-max(LEAST_LENGTH, request.length_from) // ROUND_LENGTH) * ROUND_LENGTH, request.length_to)
    step = min(ROUND_LENGTH, (request.length_to - low) // 4)
    # Squares far from a straight line.
    lengths = [low, low + step, low + 4 * step]
    chunk = chunk_rows or 64
    one, several = (chunk // 4, chunk, chunk // 2), (3 * chunk, 4 * chunk, 3 * chunk)
    shapes = []
    for index, (rows, length) in enumerate((rows, length) for rows in (2, 3, 5) for length in lengths):
        labels = (one if index % 2 else several)[index % 3]
        tokens = round(rows * length * PACKED_SHARES[index % len(PACKED_SHARES)]) if packed else 0
        shapes.append(MicroShape(rows, length, max(1, labels), tokens))
    return shapes


def _follow(step: EngineStep, shapes: list[MicroShape]) -> tuple[list[_Followed], dict[str, list[Costs]]]:
    followed: list[_Followed] = []
    work: dict[str, list[Costs]] = {"micro": [], "evaluation": [], "update": []}
    for shape in shapes:
        stream = step.follow([shape])
        followed.append(_Followed(_cut(stream, step.layers, _count_chunks(shape, step.built.head.chunk_rows)), shape))
        costs = {phase: item for (phase, _), item in stream.costs.items()}
        forward, loss = costs["forward"], costs["loss"]
        work["micro"].append(_add(forward, loss, costs["backward"]))
        # Without gradients the loss multiplies by the head once instead of twice.
        work["evaluation"].append(_add(forward, _scale(loss, 0.5)))
        work["update"].append(costs["optimizer"])
    return followed, work


def _count_chunks(shape: MicroShape, chunk_rows: int) -> Labels:
    """Return how the loss goes through the labelled tokens; without chunks there is only one way."""
    if not chunk_rows:
        return "any"
    return "one_chunk" if shape.labels <= chunk_rows else "several_chunks"


def _cut(stream: Stream, layers: int, chunks: Labels) -> dict[Segment, Array]:
    """Return the live bytes by purpose after each event, by segment; the state before the step is in none."""
    columns = {purpose: index for index, purpose in enumerate(PURPOSES)}
    changes = np.zeros((len(stream.ids), len(PURPOSES)))
    where = [columns[stream.purposes[block]] for block in stream.ids]
    changes[np.arange(len(where)), where] = stream.sizes
    live = changes.cumsum(axis=0)
    ends = [mark.start for mark in stream.marks[1:]] + [len(stream.ids)]
    parts: dict[Segment, list[Array]] = defaultdict(list)
    for mark, end in zip(stream.marks, ends, strict=True):
        labels = chunks if mark.phase == "loss" else "any"
        # With the state that it begins with: a segment without an event has a height as well.
        parts[mark.phase, _find_spot(mark.place, layers), labels].append(live[max(0, mark.start - 1) : end])
    return {segment: np.concatenate(pieces) for segment, pieces in parts.items()}


def _find_spot(place: int, layers: int) -> Spot:
    if place == BEFORE:
        return "before"
    if place == AFTER:
        return "after"
    return "first" if place == 0 else "last" if place == layers - 1 else "middle"


def _fit_all(followed: list[_Followed]) -> Fits:
    """Fit every event of every segment; where the number of events differs between shapes, the highest one."""
    fits: Fits = {}
    for segment in {segment for item in followed for segment in item.live}:
        having = [item for item in followed if segment in item.live]
        pieces = [item.live[segment] for item in having]
        counts = sorted({len(piece) for piece in pieces})
        if segment[2] == "several_chunks" and len(counts) == 2:
            # Three and four whole chunks: the second one is like all that follow, and the same in both.
            pieces = [piece[: 2 * counts[0] - counts[1]] for piece in pieces]
        elif len(counts) > 1:
            pieces = [piece[[0, int(piece.sum(axis=1).argmax())]] for piece in pieces]
        stacked = np.stack(pieces)
        terms = _stack_terms([item.shape for item in having])
        if len(having) == len(followed):
            fits[segment] = _solve(terms, stacked)
            continue
        # The loss in one of its two ways: where it begins is known from all traces; it adds by labels and tokens only.
        begin = np.stack([item.live[_find_loss(item)][0] for item in followed])
        added = _solve(terms[:, _LOSS_TERMS], stacked - stacked[:, :1])
        fits[segment] = np.repeat(_solve(_stack_terms([item.shape for item in followed]), begin[:, None]), len(added), axis=0)
        fits[segment][:, :, _LOSS_TERMS] += added
    return fits


def _find_loss(item: _Followed) -> Segment:
    return next(segment for segment in item.live if segment[0] == "loss")


def _solve(terms: Array, live: Array) -> Array:
    """Return (events, purposes, terms) for live bytes (shapes, events, purposes)."""
    flat = live.reshape(len(live), -1)
    # The columns differ by many powers of ten: scaled, least squares loses no digits.
    scale = np.abs(terms).max(axis=0)
    solution = np.linalg.lstsq(terms / scale, flat, rcond=None)[0] / scale[:, None]
    coefficients: Array = solution.T.reshape(*live.shape[1:], terms.shape[1])
    return coefficients


def _extend(few: Fits, more: Fits, further: int) -> Fits:
    """Return the events of the whole model: those of the short one plus `further` times what one block adds."""
    extended: Fits = {}
    for segment, before in few.items():
        pair = (before, more[segment])
        if pair[0].shape != pair[1].shape:
            pair = (_highest(pair[0]), _highest(pair[1]))
        extended[segment] = pair[0] + further * (pair[1] - pair[0])
    return extended


def _highest(coefficients: Array) -> Array:
    """Return the event that is the highest at a typical shape (8 rows of 512 tokens, all labelled)."""
    index = int((coefficients.sum(axis=1) @ np.array(count_terms(8 * 512, 8 * 512, 512, 8 * 512))).argmax())
    highest: Array = coefficients[[index]]
    return highest


def _keep_highest(events: Fits, request: TraceRequest, chunk_rows: int, *, packed: bool) -> list[Hump]:
    """Return the events that are the highest of all for some shape."""
    owners = [segment for segment, fitted in events.items() for _ in range(len(fitted))]
    coefficients = np.concatenate(list(events.values()))
    lengths = np.unique(np.geomspace(request.length_from, request.length_to, GRID_LENGTHS).round())
    grid = np.array([
        count_terms(tokens := taken * rows * length, rows * length, length, max(1.0, round(share * tokens)))
        for rows in GRID_ROWS
        for length in lengths
        for share in GRID_SHARES
        for taken in (PACKED_SHARES[:2] if packed else (1.0,))
    ])  # fmt: skip
    totals = coefficients.sum(axis=1) @ grid.T
    several = grid[:, -1] > chunk_rows
    for index, (_, _, labels) in enumerate(owners):
        if labels != "any":
            totals[index, several != (labels == "several_chunks")] = 0.0
    return [
        Hump(
            phase=owners[index][0],
            labels=owners[index][2],
            **{purpose: _affine(coefficients[index, column]) for column, purpose in enumerate(PURPOSES)},
        )
        for index in np.unique(totals.argmax(axis=0))
    ]


def _fit_costs(few: list[Costs], shapes: list[MicroShape], more: list[Costs] | None = None, further: int = 0) -> StepCosts:
    names = [item.name for item in fields(Costs)]
    terms = _stack_terms(shapes)

    def fit(work: list[Costs]) -> Array:
        values = np.array([[[getattr(costs, name) for name in names]] for costs in work])
        solution: Array = _solve(terms, values)[0]
        # Larger tensors need no more kernels; more labels do, a few for each chunk.
        launches = names.index("launches")
        solution[launches] = 0.0
        solution[launches, _LAUNCH_TERMS] = _solve(terms[:, _LAUNCH_TERMS], values[:, :, launches])[0]
        return solution

    solution = fit(few)
    if more is not None:
        solution = solution + further * (fit(more) - solution)
    return StepCosts(**{name: _affine(row) for name, row in zip(names, solution, strict=True)})


def _add(*costs: Costs) -> Costs:
    return Costs(*(sum(getattr(item, part.name) for item in costs) for part in fields(Costs)))


def _scale(costs: Costs, factor: float) -> Costs:
    return Costs(*(factor * getattr(costs, part.name) for part in fields(Costs)))


def _stack_terms(shapes: list[MicroShape]) -> Array:
    return np.array([count_terms(shape.tokens, shape.places, shape.length, shape.labels) for shape in shapes])


def _affine(coefficients: Array) -> Affine:
    """Rounded to 1e-6 of a byte or operation: what is left of exact sums after least squares."""
    return Affine(**{name: round(float(value), 6) for name, value in zip(TERMS, coefficients, strict=True)})
