"""How long a run takes: the work of every micro-batch at the device's pace, and everything around.

The work comes from a traced profile where there is one, else from the closed form (planner/work.py); the pace from a
calibration of this device, else from the table (planner/calibrated.py). Rows are drawn from the data set's lengths and cut
into micro-batches as the engine does it.

P50 is the time that half of such runs stay below. P90 is the time that nine runs of ten stay below, counting the planner's
own error and that a shared machine is not equally fast all the time: P50 times the device's `spread`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.contracts.calibration import Calibration
from app.contracts.options import Method
from app.contracts.plan import ModelShape, Plan
from app.contracts.trace import TraceProfile
from app.planner.calibrated import SPREAD_GUESSED, DevicePace, find_device_pace
from app.planner.gpus import Rates
from app.planner.memory import count_weight_bytes
from app.planner.micro_batches import ROWS_DRAWN, MicroSize, find_end, measure_part, simulate_steps
from app.planner.pace import Pace
from app.planner.run_shape import RowLengths, RunShape
from app.planner.traced import Terms, find_profile
from app.planner.work import WorkTerms, count_forward_work, count_step_work, read_terms

WIDENING = 1.5
"""Seconds a byte of loading weights in 32 bits over those in 16, in which they are stored: they are widened first. Measured on
six models of 82 to 281 million weights: 1.1 to 2.0 (AMD EPYC, two cores)."""
PROBE_SECONDS = 5.0
"""Limit of the probe before the first step, on a processor (training/probe.py)."""
PROBE_TOKENS = 64
"""Tokens of the row from which it judges, computed twice."""
LEAST_COMPARISON_SECONDS, COMPARISON_SHARE = 60.0, 0.15
"""The comparison with the model before may take so long, or this share of what the training took."""
REFERENCE_PASSES: dict[Method, int] = {"dpo": 1, "kto": 2}
"""How often all rows are read without gradients before the first step (training/methods)."""
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

    def seconds(self, rows: int, length: int, trained_share: float = 1.0) -> float:
        """Return the seconds for `rows` rows of `length` tokens each, a share of which is trained."""
        tokens = rows * length
        return self.list_seconds([MicroSize(rows, length, tokens, tokens)], trained_share)[0]

    def list_seconds(self, sizes: Sequence[MicroSize], trained_share: float = 1.0) -> list[float]:
        """Return the seconds for each of these micro-batches, of whose rows' tokens a share is trained.

        The sum over the values of `count_terms`, written out: a plan asks for it some thousand times.
        """
        one, by_length, by_square, by_token, by_place, by_score, by_label = self.terms
        by_label *= trained_share
        return [
            one
            + (by_length + by_square * size.length) * size.length
            + (by_place + by_score * size.length) * size.rows * size.length
            + by_token * size.tokens
            + by_label * size.row_tokens
            for size in sizes
        ]


def price(work: WorkTerms, pace: Pace, factor: float = 1.0) -> MicroCost:
    """Return what `work` costs at this pace, times `factor`."""
    paces = [factor * value for value in pace.values]
    columns = zip(*work.list_terms(), strict=True)
    one, length, squared, token, place, place_length, label = (
        sum(a * b for a, b in zip(column, paces, strict=True)) for column in columns
    )
    return MicroCost((one, length, squared, token, place, place_length, label))


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


def estimate_step_seconds(  # noqa: PLR0917
    cost: MicroCost, run: RunShape, lengths: RowLengths, rows: int, max_length: int, steps: int = 1, alone: float = 1.0
) -> float:
    """Return the mean seconds of the micro-batches over `rows` random rows that are sorted and cut together.

    `cost` is that of a micro-batch beside others, on its lane; `alone` times that is what one takes with all cores to itself.
    """
    if rows <= 0 or not lengths.quantiles:
        return 0.0
    drawn = simulate_steps(lengths, run, rows, max_length, steps)
    seconds = 0.0
    for parts in drawn.of_steps:
        each = cost.list_seconds(parts, lengths.trained_share)
        seconds += each[0] * alone if len(each) == 1 else find_end(each, run.lanes)
    return seconds / drawn.steps * max(1.0, rows / ROWS_DRAWN)


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
    alone = device.alone if run.lanes > 1 else 1.0
    rows_per_step = min(train_rows, run.micro_batch * accumulation)
    full_steps, rest = divmod(train_rows, rows_per_step)
    update = 4.0 * run.adapter_params / device.optimizer_bytes_per_second
    step_seconds = estimate_step_seconds(step_cost, run, lengths, rows_per_step, max_length, full_steps * epochs, alone)
    epoch = full_steps * (step_seconds + update)
    if rest:
        epoch += estimate_step_seconds(step_cost, run, lengths, rest, max_length, epochs, alone) + update
    evaluation = estimate_step_seconds(forward_cost, run, lengths, heldout_rows, max_length, alone=alone)
    mean = sum(min(length, max_length) for length in lengths.quantiles) / len(lengths.quantiles)
    reading = (train_rows + heldout_rows) * mean / TOKENS_READ_PER_SECOND
    probe = _estimate_probe(step_cost, run, lengths, rows_per_step, max_length, alone)
    again = 0.0
    if run.method in REFERENCE_PASSES:
        everything = estimate_step_seconds(forward_cost, run, lengths, train_rows, max_length, alone=alone)
        again = REFERENCE_PASSES[run.method] * (everything + evaluation)
        if run.method == "kto":  # each row with a foreign answer, in each step and each evaluation
            epoch, evaluation = epoch + everything, 2 * evaluation
    p50 = around + run.group * reading + probe + again + epochs * epoch + (epochs + 1) * evaluation
    return RunTime(p50, p50 * spread)


def limit_comparison(training_seconds: float) -> float:
    """Return how long the comparison after a training may take; it leaves out what it has no time for."""
    return max(LEAST_COMPARISON_SECONDS, COMPARISON_SHARE * training_seconds)


def find_comparison_seconds(plan: Plan) -> float:
    """Return how long the comparison after this job will take at most; it is not contained in the plan's seconds."""
    asked = plan.resolved.get("report_rows")
    return limit_comparison(plan.seconds_p90) if plan.heldout_rows and asked and asked.value else 0.0


def _estimate_probe(  # noqa: PLR0917
    cost: MicroCost, run: RunShape, lengths: RowLengths, rows_per_step: int, max_length: int, alone: float
) -> float:
    """Return the seconds of the longest micro-batch before the first step; on a processor of those rows that it has time for."""
    row = min(lengths.longest, max_length)
    rows = simulate_steps(lengths, run, rows_per_step, max_length, 1).of_steps[0][0].rows
    judging = 0.0
    if run.device == "cpu":
        short = alone * cost.seconds(1, min(PROBE_TOKENS, row), lengths.trained_share)
        judging = 2 * short
        rows = min(rows * run.lanes, int(max(0.0, PROBE_SECONDS - judging) * min(PROBE_TOKENS, row) / (short * row)))
    if not rows:
        return judging
    each = -(-rows // run.lanes)
    longest = measure_part([row] * each, max_length, lengths.shared if run.packed else None)
    return judging + cost.list_seconds([longest], lengths.trained_share)[0] * (alone if rows == 1 else 1.0)


def _estimate_around(shape: ModelShape, run: RunShape, device: DevicePace) -> float:
    """Return the seconds of starting the trainer, loading the weights and saving the adapter."""
    loaded = count_weight_bytes(shape, run) / device.load_bytes_per_second
    if run.device == "cpu" and run.dtype == "float32":
        loaded *= WIDENING
    loading = device.load_fixed_seconds + loaded
    return device.start_seconds + loading + device.save_seconds
