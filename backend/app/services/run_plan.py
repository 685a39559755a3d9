"""One run, planned: the model's sizes, the rows' lengths, the device, every value. Knows no catalogue."""

import importlib.util
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import psutil

from app.contracts.dataset import DatasetInfo
from app.contracts.hardware import Device, Hardware
from app.contracts.options import FOUR_BIT_PACKAGES
from app.contracts.plan import ModelShape, Notice, Plan, Resolved
from app.core.errors import NotFound, Unsupported
from app.datasets.token_checks import TokenCheck, check_tokens
from app.datasets.tokens import TokenCount
from app.planner.bound import add_records, read_shipped
from app.planner.configs import write_shape_config
from app.planner.correction import list_times
from app.planner.request import PlanRequest
from app.planner.run_shape import RowLengths
from app.planner.shapes import find_shape, shape_from_config
from app.services.continuing import Continued, find_continued
from app.services.dataset_service import get_dir
from app.services.learning_method import count_examples, explain_time, settle_method
from app.services.long_rows import make_cut, settle_long_rows
from app.services.model_entry import ModelEntry
from app.services.resolution import check_target_modules, read_options, resolve_values
from app.services.row_lengths import find_counts, measure_lengths
from app.services.studio import Studio
from app.services.tokenizer_folders import find_tokenizer_folder
from app.services.traced_plan import make_traced_plan
from app.storage.dataset_dir import DatasetDir

CARD_SHARE = 0.97
"""Of a card's memory that a job may count on when our own chat worker or trainer holds some of it now."""
OWN_SECONDS = 2.0
"""Plans follow each movement of a slider, and to list the processes of a machine takes milliseconds."""
ENGINE_MODULES = frozenset({"app.training", "app.inference", "app.export", "app.planner.trace"})


@dataclass(frozen=True)
class FoundModel:
    """A model that can be planned: its entry, and its sizes where they are known."""

    model_id: str
    entry: ModelEntry
    shape: ModelShape | None
    config: dict[str, Any] | None = None
    """Its config.json, where there is one."""


@dataclass(frozen=True)
class PlannedRun:
    """A plan with what it was made from."""

    plan: Plan
    model: FoundModel
    dataset: DatasetDir
    info: DatasetInfo
    continued: Continued | None = None
    checks: Sequence[TokenCheck] = ()
    """Of the rows as this model's tokens; none while its tokenizer is not here."""


def find_catalogue_shape(studio: Studio, entry: ModelEntry) -> ModelShape | None:
    """Return a catalogue model's sizes: from the table, else from its config.json on this machine, else None."""
    shape = find_shape(entry.name)
    if shape is None and (config := studio.models.read_config(entry.name)) is not None:
        try:
            shape = shape_from_config(config)
        except Unsupported:
            return None
    return shape


def plan_run(
    studio: Studio,
    dataset_id: str,
    get_model: Callable[[], FoundModel],
    *,
    device_id: str | None = None,
    continue_from: str | None = None,
    options: dict[str, Any],
) -> PlannedRun:
    """Resolve every value and plan the run. Raise Invalid, NotFound (data set, device), and what `get_model` raises.

    What costs nothing to check comes first: the model may have to be asked for at the hub.
    """
    chosen = read_options(**options)
    dataset = get_dir(studio, dataset_id)
    info = dataset.read_info()
    model = get_model()
    hardware = studio.hardware()
    device = get_device(hardware, device_id)
    continued = find_continued(studio, continue_from, model.entry.name, options)
    preset = continued.preset if continued else None
    tokenizer_folder = find_tokenizer_folder(studio, model.entry.name)
    counts = find_counts(dataset, info, tokenizer_folder)
    values = settle_for_rows(resolve_values(chosen, model.entry, preset), info, counts)
    check_target_modules(values["target_modules"].value, model.shape)
    lengths = measure_lengths(dataset, info, tokenizer_folder)
    request = make_plan_request(
        studio,
        model,
        device,
        values,
        lengths,
        available_bytes=count_available(device),
        train_rows=count_examples(info.train_rows, values["method"].value, info.mapping.shape),
        heldout_rows=count_examples(info.heldout_rows, values["method"].value, info.mapping.shape),
    )
    config = find_config(studio, model)
    plan = explain_time(make_traced_plan(studio.tracing, request, config))
    if config is not None and (packed := config.get("quantization_config")):
        kind = packed.get("quant_method") if isinstance(packed, dict) else None
        plan = plan.model_copy(update={"reasons": [*plan.reasons, Notice(key="weights_packed", params={"kind": kind or "?"})]})
    if hardware.unused_reason and device.kind == "cpu":
        plan = plan.model_copy(update={"reasons": [*plan.reasons, Notice(key=hardware.unused_reason)]})
    checks = check_tokens(counts, make_cut(plan.resolved), classes=plan.resolved["method"].value == "classification")
    doubts = [Notice(key=check.key, params=check.params) for check in checks if check.status != "passed"]
    plan = plan.model_copy(update={"warnings": [*doubts, *plan.warnings]})
    return PlannedRun(plan, model, dataset, info, continued, checks)


def settle_for_rows(values: dict[str, Resolved], info: DatasetInfo, counts: Sequence[TokenCount]) -> dict[str, Resolved]:
    """Return the values with what the rows decide: the method, and the fate of long ones. Raise Invalid for an unfit method."""
    return settle_long_rows(settle_method(values, info.mapping.shape), counts)


def get_device(hardware: Hardware, device_id: str | None) -> Device:
    """Return the device with this id, or the best one. Raise NotFound."""
    if device_id is None:
        return hardware.best
    wanted = "cuda:0" if device_id == "cuda" else device_id
    for device in hardware.devices:
        if device.id == wanted:
            return device
    raise NotFound("device", device_id=device_id, available=", ".join(device.id for device in hardware.devices))


def count_available(device: Device) -> int:
    """Return the bytes that a job will find on `device`: what is free, and what our own engines will have given back.

    Chat and trace workers give their memory back before a training starts, and jobs run one after the other.
    """
    own = _own_engine_bytes(round(time.monotonic() / OWN_SECONDS))
    if not own:
        return device.memory_free_bytes
    if device.kind == "cuda":
        return max(device.memory_free_bytes, round(CARD_SHARE * device.memory_total_bytes))
    return min(device.memory_total_bytes, device.memory_free_bytes + own)


@lru_cache(maxsize=1)
def _own_engine_bytes(_now: int) -> int:
    """Return the resident memory of the trainers and workers that this process started, looked up once in OWN_SECONDS."""
    total = 0
    for child in psutil.Process(os.getpid()).children(recursive=True):
        try:
            if ENGINE_MODULES & set(child.cmdline()):
                total += child.memory_info().rss
        except psutil.Error:
            continue
    return total


@cache
def has_nf4() -> bool:
    """Return whether the packages that compute with 4-bit weights are installed."""
    return all(importlib.util.find_spec(package) for package in FOUR_BIT_PACKAGES)


def make_plan_request(
    studio: Studio,
    model: FoundModel,
    device: Device,
    values: dict[str, Resolved],
    lengths: RowLengths,
    *,
    available_bytes: int,
    train_rows: int,
    heldout_rows: int,
    nf4_usable: bool | None = None,
) -> PlanRequest:
    """Return everything that the plan of `model` on `device` depends on, with what this machine has learnt so far."""
    records = studio.planner_dir.read_records()
    return PlanRequest(
        model_id=model.model_id,
        model_name=model.entry.display_name,
        shape=model.shape,
        vram_required_gb=model.entry.vram_required_gb,
        device=device,
        available_bytes=available_bytes,
        values=values,
        lengths=lengths,
        train_rows=train_rows,
        heldout_rows=heldout_rows,
        nf4_usable=has_nf4() if nf4_usable is None else nf4_usable,
        calibration=studio.planner_dir.read_calibrations().find(device, studio.hardware().driver_version),
        residuals=add_records(read_shipped(), records),
        finished=list_times(records),
    )


def find_config(studio: Studio, model: FoundModel) -> dict[str, Any] | None:
    """Return config.json of a model: its own, that of its files here, or one that its sizes imply; None for unknown sizes."""
    if model.config is not None:
        return model.config
    own = studio.models.read_config(model.entry.name)
    if own is not None or model.shape is None:
        return own
    return write_shape_config(model.shape)
