"""The training loop: load, evaluate, step, evaluate after each epoch, save. Read it from top to bottom.

What it does not know: HTTP, the database, how the job was planned. It reads a frozen TrainingJob and appends events.
Work is resumed from the newest complete checkpoint when one is there, with the same result as an undisturbed run.
"""

import logging
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

from app.contracts.events import CheckpointSaved, EvalLogged, Noted, PhaseStarted, StepLogged
from app.contracts.hardware import DeviceKind
from app.contracts.job import TrainingJob
from app.contracts.report import Report
from app.core.errors import CheckpointCorrupt, DatasetChanged, DatasetInvalid, Diverged, HubUnreachable
from app.datasets.render import Renderer
from app.planner.micro_batches import CPU_TOKENS, count_lanes
from app.planner.run_shape import count_group
from app.storage.checkpoint_dir import ADAPTER, Keeping, Reason, list_checkpoints, verify
from app.storage.job_dir import JobDir, write_atomically
from app.storage.model_store import missing_files
from app.training.assembly import assemble, finish_gradient, update
from app.training.batching import Row, epoch_order, steps_per_epoch
from app.training.checkpoint import RunState, restore_checkpoint, save_checkpoint
from app.training.gradient import Computer, Limits
from app.training.graphs import find_graphs
from app.training.lanes import Lanes
from app.training.loading import check_unchanged, fetch_weights, find_device, is_changed, load_model, use_physical_cores
from app.training.lora import WEIGHTS_NAME, load_tensors
from app.training.memory import peak_bytes, reserved_peak_bytes, settle
from app.training.methods.choosing import prepare
from app.training.methods.interface import Method, Outcome
from app.training.probe import probe
from app.training.remaining import estimate_remaining
from app.training.repeating import clear_gradients, compute_finite, is_finite, name_rows
from app.training.results import make_report, note_rows, save_result
from app.training.row_checks import check_rows
from app.training.rows import encode_rows
from app.training.scaling import LossScale
from app.training.schedule import learning_rate_at
from app.training.stopping import Stopped, StopWatch

log = logging.getLogger(__name__)

HUB_WAITS_SECONDS = (2.0, 10.0, 30.0, 60.0)
"""Between tries to reach the hub: a short outage of the network ends no job. Judged, not measured."""


def train(  # noqa: PLR0912, PLR0915  long because it is linear
    job_dir: JobDir, stop: StopWatch, max_micro_batch: int | None = None, cpu_token_budget: int = CPU_TOKENS
) -> Report:
    """Run or continue the job in `job_dir`; write adapter/ and report.json; return the report.

    `max_micro_batch` lowers the job's micro-batch (rows) after an attempt was killed for memory.
    Raises Stopped, and AffinageError subclasses for expected failures.
    """
    started = time.monotonic()
    job = job_dir.read_job()
    opt = job.optimization
    device = find_device(job.device_id)
    threads = use_physical_cores()
    torch.manual_seed(opt.seed)
    limits = Limits(
        rows=max(count_group(job.method), min(opt.micro_batch_size, max_micro_batch or opt.micro_batch_size)),
        tokens=cpu_token_budget if device.type == "cpu" else None,
        lanes=count_lanes(threads) if device.type == "cpu" else 1,
    )
    log.info("job %s on %s, %d threads, micro-batch %d rows", job.job_id, device, threads, limits.rows)

    # ---- model files, rows, model --------------------------------------------------------------------------------
    fetched = bool(missing_files(Path(job.model.path)))
    if fetched:
        _begin(job_dir, "downloading")
        _fetch(job, job_dir, stop)
    check_unchanged(job.model)
    _begin(job_dir, "tokenising")
    renderer = Renderer.load(Path(job.model.path))
    if fetched:
        check_rows(job, job_dir, renderer)  # before the start there was no tokenizer to check them with
    train_set, heldout = (
        encode_rows(
            file,
            job_dir.encoded / f"{file.stem}.rows",
            renderer,
            max_length=opt.max_length,
            long_rows=opt.long_rows,
            check_stop=stop.check,
            judged=job.method in ("dpo", "kto"),
            must_be_same=True,
        )
        for file in (job_dir.train_file, job_dir.heldout_file)
    )
    if not train_set.rows:
        raise DatasetInvalid("nothing_trained")
    rows_hash = train_set.counts.content + heldout.counts.content
    _begin(job_dir, "loading")
    model = load_model(job, device)
    kind: DeviceKind = "cpu" if device.type == "cpu" else "cuda"
    built = assemble(
        model,
        job.lora,
        kind=kind,
        quantization=job.quantization,
        learning_rate=opt.learning_rate,
        weight_decay=opt.weight_decay,
    )
    parameters, optimizer = built.parameters, built.optimizer
    if job.continue_from is not None:
        load_tensors(model, job_dir.start_adapter / WEIGHTS_NAME)
        job_dir.append(Noted(level="info", key="continued", params={"job_id": job.continue_from}))
    stop.check()
    compute = Computer(
        built.head,
        parameters,
        device,
        renderer.pad_id,
        opt.max_length,
        limits,
        job_dir,
        stop.check,
        LossScale.of(job.dtype),
        Lanes(limits.lanes, threads),
        find_graphs(
            built.head,
            parameters,
            device,
            renderer.pad_id,
            opt.max_length,
            checkpointing=opt.gradient_checkpointing,
            quantized=job.quantization != "none",
            say_closed=lambda reason: job_dir.append(Noted(level="info", key="graphs_closed", params={"reason": reason})),
        ),
    )
    learned, unseen = prepare(job, compute, train_set, heldout)
    epoch_steps = steps_per_epoch(len(learned), opt.effective_batch_size)
    total_steps = epoch_steps * opt.num_epochs

    # ---- a fresh start, or where an earlier attempt stood ----------------------------------------------------------
    state = _resume(job_dir, model, optimizer)
    if kind == "cpu":
        settle(parameters, optimizer)
    if state is None:
        note_rows(job_dir, train_set.counts, heldout.counts, opt.max_length)
        probe(compute, optimizer, train_set.rows, heldout.rows, job.plan.peak_bytes)
        state = RunState(micro_batch_size=limits.rows, token_budget=limits.tokens, lanes=limits.lanes, rows_hash=rows_hash)
    elif state.rows_hash and rows_hash and state.rows_hash != rows_hash:
        raise DatasetChanged("rows", step=state.step)
    limits.rows, limits.lanes = min(limits.rows, state.micro_batch_size), state.lanes
    if state.step:
        compute.scale.value, compute.scale.steady = state.loss_scale, state.steady_steps
    earlier_seconds = state.total_seconds
    saved_at = time.monotonic()

    def evaluate(current: RunState) -> RunState:
        """Log the loss on the held-out rows and return the state that holds it; once per step number."""
        if not heldout.rows or current.heldout_step == current.step:
            return current
        _begin(job_dir, "evaluating")
        evaluation_started = time.monotonic()
        note = partial(_note_not_finite, "heldout", current.step, heldout.rows)
        outcome = compute_finite(compute, job, unseen.evaluate, _list_numbers, note)
        loss = outcome.loss
        if not is_finite(*_list_numbers(outcome)):
            raise Diverged("heldout", step=current.step)
        job_dir.append(
            EvalLogged(
                step=current.step,
                epoch=current.step / epoch_steps,
                loss=loss,
                rows=len(unseen),
                tokens=heldout.counts.trained_tokens,
                measures=outcome.measures,
            )
        )
        measured = note_evaluation(current, loss, outcome.measures, time.monotonic() - evaluation_started)
        if job.keep_best and measured.step and measured.best_step == measured.step:
            _save(job_dir, job, model, optimizer, measured, renew=True)
        return measured

    # ---- training --------------------------------------------------------------------------------------------------
    random_state = compute.random_state()  # after the last whole step: an interrupted one may have drawn numbers
    try:
        for epoch in range(state.step // epoch_steps, opt.num_epochs):
            if state.step == epoch * epoch_steps:
                state = evaluate(state)
            if job.early_stopping and state.worse_in_a_row >= job.early_stopping:
                params = {"epoch": epoch, "epochs": opt.num_epochs, "best": state.best_step or 0, "worse": state.worse_in_a_row}
                job_dir.append(Noted(level="info", key="stopped_early", params=params))
                break
            order = epoch_order(len(learned), opt.seed, epoch)
            _begin(job_dir, "training")
            for index in range(state.step - epoch * epoch_steps, epoch_steps):
                step_started = time.monotonic()
                first = index * opt.effective_batch_size
                places = order[first : first + opt.effective_batch_size]
                rows = learned.rows_of(places)

                note = partial(_note_not_finite, "step", state.step + 1, rows)
                attempt = partial(take_gradient, method=learned, places=places, max_norm=opt.max_grad_norm)
                outcome, norm = compute_finite(compute, job, attempt, lambda found: (*_list_numbers(found[0]), found[1]), note)
                loss = outcome.loss
                if not is_finite(*_list_numbers(outcome), norm):
                    raise Diverged("gradient" if is_finite(loss) else "loss", step=state.step + 1, rows=name_rows(rows))
                rate = learning_rate_at(state.step, total_steps, opt.learning_rate, opt.warmup_ratio, opt.lr_scheduler)
                update(optimizer, rate, keep_gradients=kind == "cpu")
                compute.scale.count_good_step()
                random_state = compute.random_state()

                seconds = time.monotonic() - step_started
                tokens = sum(len(row.ids) for row in rows)
                state = state.model_copy(
                    update={
                        "step": state.step + 1,
                        "tokens": state.tokens + tokens,
                        "train_seconds": state.train_seconds + seconds,
                        "total_seconds": earlier_seconds + time.monotonic() - started,
                        "micro_batch_size": limits.rows,
                        "token_budget": limits.tokens,
                        "lanes": limits.lanes,
                        "loss_scale": compute.scale.value,
                        "steady_steps": compute.scale.steady,
                        "loss_first": loss if state.loss_first is None else state.loss_first,
                        "loss_last": loss,
                        "peak_bytes": max(state.peak_bytes, peak_bytes(device)),
                        "peak_reserved_bytes": reserved_peak_bytes(device),
                    }
                )
                job_dir.append(
                    StepLogged(
                        step=state.step,
                        total_steps=total_steps,
                        epoch=state.step / epoch_steps,
                        loss=loss,
                        learning_rate=rate,
                        grad_norm=norm,
                        tokens=state.tokens,
                        tokens_per_second=tokens / seconds,
                        peak_bytes=state.peak_bytes,
                        step_seconds=seconds,
                        eta_seconds=estimate_remaining(
                            planned_seconds=job.plan.seconds_p50,
                            step=state.step,
                            total_steps=total_steps,
                            train_seconds=state.train_seconds,
                            evaluations_left=opt.num_epochs - epoch,
                            evaluation_seconds=state.heldout_seconds,
                        ),
                        measures=outcome.measures,
                    )
                )
                if is_due(job, state.step, time.monotonic() - saved_at) and state.step < total_steps:
                    _save(job_dir, job, model, optimizer, state)
                    saved_at = time.monotonic()
        state = evaluate(state)
    except Stopped as stopped:
        # The step that was interrupted is dropped; what was learned before it is kept for the next attempt.
        compute.set_random_state(random_state)
        if stopped.reason == "paused" and state.step:
            _save(job_dir, job, model, optimizer, state, reason="paused")
        raise
    except Diverged:
        # The bad step was never taken: what was learned before it is good.
        compute.set_random_state(random_state)
        if state.step:
            _save(job_dir, job, model, optimizer, state)
            job_dir.append(Noted(level="info", key="last_good_kept", params={"step": state.step}))
        raise

    # ---- the result ------------------------------------------------------------------------------------------------
    _begin(job_dir, "saving")
    result_step = state.step
    if job.keep_best:
        state, result_step = return_to_best(job_dir, model, state)
    if is_changed(job.model):  # trained were the weights that it began with; the tokenizer beside the adapter may be another
        job_dir.append(Noted(level="warning", key="model_changed", params={"model_id": job.model.model_id}))
    save_result(job_dir, job, model)
    report = make_report(
        state,
        learned,
        unseen,
        counts=train_set.counts,
        seconds=earlier_seconds + time.monotonic() - started,
        device=device,
        result_step=result_step,
        planned_steps=total_steps,
    )
    write_atomically(job_dir.report_file, report.model_dump_json(indent=2))
    shutil.rmtree(job_dir.encoded)
    return report


def note_evaluation(state: RunState, loss: float, measures: dict[str, float], seconds: float) -> RunState:
    """Return the state after an evaluation of its step; `seconds` is how long that took."""
    known: dict[str, object] = {"heldout_last": loss, "measures_last": measures, "heldout_step": state.step}
    if state.heldout_before is None:
        known |= {"heldout_before": loss, "measures_before": measures}
    if state.step:
        if state.best_loss is None or loss < state.best_loss:
            known |= {"best_step": state.step, "best_loss": loss, "best_measures": measures, "worse_in_a_row": 0}
        else:
            known["worse_in_a_row"] = state.worse_in_a_row + 1
    return state.model_copy(update={**known, "heldout_seconds": seconds})


def return_to_best(job_dir: JobDir, model: nn.Module, state: RunState) -> tuple[RunState, int]:
    """Put the adapter with the lowest loss on held-out rows into the model.

    Return the state with that loss as its last, and the step after which the model was so.
    A checkpoint that was damaged meanwhile changes nothing: what was trained last is the result then.
    """
    if state.best_step in (None, state.step) or state.best_loss is None:
        return state, state.step
    path = job_dir.checkpoints / f"checkpoint-{state.best_step}"
    try:
        verify(path)
        load_tensors(model, path / ADAPTER)
    except CheckpointCorrupt as error:
        job_dir.append(Noted(level="warning", key=error.key, params=error.params))
        return state, state.step
    params = {"step": state.best_step, "loss": round(state.best_loss, 4), "last": round(state.heldout_last or 0.0, 4)}
    job_dir.append(Noted(level="info", key="best_kept", params=params))
    return state.model_copy(update={"heldout_last": state.best_loss, "measures_last": state.best_measures}), state.best_step


def take_gradient(compute: Computer, method: Method, places: Sequence[int], max_norm: float) -> tuple[Outcome, float]:
    """Leave the clipped mean gradient of the examples on the parameters; return their loss and the norm before the clip."""
    while True:
        random_state = compute.random_state()
        outcome = method.add_gradient(compute, places)
        norm = finish_gradient(compute.parameters, outcome.weight * compute.scale.value, max_norm).item()
        if is_finite(norm) or not is_finite(outcome.loss) or not compute.scale.lower():
            return outcome, norm
        clear_gradients(compute.parameters, keep=compute.device.type == "cpu")
        compute.set_random_state(random_state)


def _list_numbers(outcome: Outcome) -> tuple[float, ...]:
    return outcome.loss, *outcome.measures.values()


def _note_not_finite(where: str, step: int, rows: Sequence[Row]) -> Noted:
    return Noted(level="warning", key=f"not_finite.{where}", params={"step": step, "rows": name_rows(rows)})


def _begin(job_dir: JobDir, phase: str) -> None:
    job_dir.append(PhaseStarted.model_validate({"phase": phase}))


def _resume(job_dir: JobDir, model: nn.Module, optimizer: torch.optim.Optimizer) -> RunState | None:
    """Restore the newest checkpoint that is whole; None for a fresh start."""
    for path in list_checkpoints(job_dir.checkpoints):
        try:
            state = restore_checkpoint(path, model, optimizer)
        except CheckpointCorrupt as error:
            job_dir.append(Noted(level="warning", key=error.key, params=error.params))
            continue
        job_dir.append(Noted(level="info", key="resumed", params={"step": state.step}))
        return state
    return None


def is_due(job: TrainingJob, step: int, seconds_since: float) -> bool:
    """Return whether a checkpoint belongs after this step: by time, and by steps where the job says so."""
    by_steps = job.checkpoint_every_steps is not None and step % job.checkpoint_every_steps == 0
    return by_steps or seconds_since >= job.checkpoint_every_seconds


def _save(
    job_dir: JobDir,
    job: TrainingJob,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: RunState,
    *,
    reason: Reason | None = None,
    renew: bool = False,
) -> None:
    keeping = Keeping(count=job.checkpoints_kept, bytes=job.checkpoints_bytes)
    saved = save_checkpoint(job_dir.checkpoints, model, optimizer, state, keeping=keeping, reason=reason, renew=renew)
    job_dir.append(CheckpointSaved(step=state.step, name=saved.name, size_bytes=saved.size_bytes))


def _fetch(job: TrainingJob, job_dir: JobDir, stop: StopWatch) -> None:
    """Get the model's files; ask a hub that cannot be reached again for some minutes before giving up."""
    for wait_seconds in HUB_WAITS_SECONDS:
        try:
            fetch_weights(job.model, job_dir, stop.check)
        except HubUnreachable as problem:
            job_dir.append(Noted(level="warning", key="hub_unreachable.retry", params={"seconds": wait_seconds}))
            log.warning("%s Asked again in %.0f s.", problem, wait_seconds)
            again = time.monotonic() + wait_seconds
            while time.monotonic() < again:
                stop.check()
                time.sleep(0.1)
        else:
            return
    fetch_weights(job.model, job_dir, stop.check)
