"""How long a run takes: the work of every micro-batch at the device's pace, and everything around.

The work comes from a traced profile where there is one, else from the closed form (planner/work.py); the pace from a
calibration of this device, else from the table (planner/calibrated.py). Rows are drawn from the data set's lengths and cut
into micro-batches as the engine does it.

P50 is the time that half of such runs stay below. P90 is the time that nine runs of ten stay below, counting the planner's
own error and that a shared machine is not equally fast all the time: P50 times the device's `spread`.
"""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

from app.contracts.calibration import Calibration
from app.contracts.plan import ModelShape
from app.contracts.trace import TraceProfile
from app.planner.calibrated import SPREAD_GUESSED, DevicePace, find_device_pace
from app.planner.gpus import Rates
from app.planner.memory import CPU_TOKENS_PER_MICRO_BATCH, count_weight_bytes
from app.planner.pace import Pace
from app.planner.prepared import LENGTH_STEP
from app.planner.run_shape import RowLengths, RunShape
from app.planner.traced import find_profile
from app.planner.work import Terms, WorkTerms, count_forward_work, count_step_work, measure_terms, read_terms

MOST_DRAWN = 64
"""Rows of one step that are simulated; a larger step is scaled up."""
PROBE_SECONDS = 5.0
"""Limit of the probe before the first step, on a processor (training/probe.py)."""
PROBE_TOKENS = 64
"""Tokens of the row from which it judges, computed twice."""
TOKENS_READ_PER_SECOND = 200_000
"""Rows are written as text by the chat template and split into tokens before training."""


@dataclass(frozen=True, slots=True)
class RunTime:
    """Seconds of a whole run."""

    p50: float
    p90: float


@dataclass(frozen=True, slots=True)
class MicroCost:
    """Seconds of one micro-batch as a sum of terms."""

    terms: Terms

    def seconds(self, rows: float, length: float, trained_share: float = 1.0) -> float:
        """Return the seconds for `rows` rows padded to `length` tokens, a share of which is trained."""
        sizes = measure_terms(rows, length, rows * length * trained_share)
        return sum(a * b for a, b in zip(self.terms, sizes, strict=True))


def price(work: WorkTerms, pace: Pace, factor: float = 1.0) -> MicroCost:
    """Return what `work` costs at this pace, times `factor`."""
    paces = [factor * value for value in astuple(pace)]
    columns = zip(*work.list_terms(), strict=True)
    one, length, squared, token, token_length, label = (
        sum(a * b for a, b in zip(column, paces, strict=True)) for column in columns
    )
    return MicroCost((one, length, squared, token, token_length, label))


def find_costs(
    shape: ModelShape, run: RunShape, device: DevicePace, profiles: Sequence[TraceProfile] = ()
) -> tuple[MicroCost, MicroCost]:
    """Return what a micro-batch costs with gradients and without: traced, or in closed form.

    Variants of one model must compare fairly though only one of them was traced: what is known of the closed form's error
    from the traced variant is applied to the others.
    """
    profile = find_profile(profiles, run)
    if profile is not None:
        return price(read_terms(profile.micro), device.traced), price(read_terms(profile.evaluation), device.traced)
    step, forward = count_step_work(shape, run), count_forward_work(shape, run)
    factor = 1.0
    for other in profiles:
        wanted = other.request
        traced_run = replace(
            run, dtype=wanted.dtype, quantization=wanted.quantization, checkpointing=wanted.checkpointing, rank=wanted.rank
        )
        if find_profile([other], traced_run):
            size = (traced_run.micro_batch, traced_run.length)
            known = price(read_terms(other.micro), device.traced).seconds(*size)
            factor = known / price(count_step_work(shape, traced_run), device.closed).seconds(*size)
            break
    return price(step, device.closed, factor), price(forward, device.closed, factor)


def split_rows(lengths: tuple[float, ...], run: RunShape, max_length: int) -> list[tuple[int, float]]:
    """Return (rows, padded length) of the micro-batches of these rows, the longest first, as the engine cuts them."""
    most_tokens = CPU_TOKENS_PER_MICRO_BATCH if run.device == "cpu" else math.inf
    found: list[tuple[int, float]] = []
    count, longest = 0, 0.0
    for length in lengths:
        if count and (count == run.micro_batch or longest * (count + 1) > most_tokens):
            found.append((count, _pad(longest, max_length)))
            count = 0
        longest = longest if count else max(1.0, length)
        count += 1
    if count:
        found.append((count, _pad(longest, max_length)))
    return found


def _pad(length: float, max_length: int) -> float:
    return float(min(max_length, math.ceil(length / LENGTH_STEP) * LENGTH_STEP))


def estimate_rows_seconds(cost: MicroCost, run: RunShape, lengths: RowLengths, rows: int, max_length: int) -> float:
    """Return the seconds of the micro-batches over `rows` rows that are sorted and cut together."""
    if rows <= 0 or not lengths.quantiles:
        return 0.0
    drawn = min(rows, MOST_DRAWN)
    parts = split_rows(lengths.draw_step(drawn, max_length), run, max_length)
    return sum(cost.seconds(count, length, lengths.trained_share) for count, length in parts) * rows / drawn


def estimate_seconds(
    shape: ModelShape, run: RunShape, rates: Rates, lengths: RowLengths, *, train_rows: int, heldout_rows: int, epochs: int,
    accumulation: int, max_length: int, calibration: Calibration | None = None, profiles: Sequence[TraceProfile] = (),
) -> RunTime:  # fmt: skip
    """Return the time of a whole run: start, loading, probe, every epoch, evaluations before and after each, saving.

    `profiles` are traces of this model; the one of this run's variant counts, any other corrects the closed form.
    """
    device = find_device_pace(shape, run, rates, calibration)
    spread = device.spread if lengths.measured else SPREAD_GUESSED
    around = _estimate_around(shape, run, device)
    if train_rows <= 0 or not lengths.quantiles:
        return RunTime(around, around * spread)
    step_cost, forward_cost = find_costs(shape, run, device, profiles)
    rows_per_step = min(train_rows, run.micro_batch * accumulation)
    full_steps, rest = divmod(train_rows, rows_per_step)
    update = 4.0 * run.adapter_params / device.optimizer_bytes_per_second
    epoch = full_steps * (estimate_rows_seconds(step_cost, run, lengths, rows_per_step, max_length) + update)
    if rest:
        epoch += estimate_rows_seconds(step_cost, run, lengths, rest, max_length) + update
    evaluation = estimate_rows_seconds(forward_cost, run, lengths, heldout_rows, max_length)
    mean = sum(min(length, max_length) for length in lengths.quantiles) / len(lengths.quantiles)
    reading = (train_rows + heldout_rows) * mean / TOKENS_READ_PER_SECOND
    longest = split_rows(lengths.draw_step(min(rows_per_step, MOST_DRAWN), max_length), run, max_length)[0]
    probe = step_cost.seconds(*longest, lengths.trained_share)
    if run.device == "cpu":
        probe = min(PROBE_SECONDS, probe + 2 * step_cost.seconds(1, PROBE_TOKENS, lengths.trained_share))
    p50 = around + reading + probe + epochs * epoch + (epochs + 1) * evaluation
    return RunTime(p50, p50 * spread)


def _estimate_around(shape: ModelShape, run: RunShape, device: DevicePace) -> float:
    """Return the seconds of starting the trainer, loading the weights and saving the adapter."""
    loading = device.load_fixed_seconds + count_weight_bytes(shape, run) / device.load_bytes_per_second
    return device.start_seconds + loading + device.save_seconds
