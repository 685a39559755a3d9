"""Traced steps for plans: from memory, from `planner/traces/`, else from the trace worker; and why there is none."""

import logging
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, TypeVar

from app.contracts.hardware import Device
from app.contracts.plan import Notice, Resolved
from app.contracts.trace import Linears, LinearsCall, ProfileCall, Replay, ReplayCall, TraceAnswer, TraceProfile, TraceRequest
from app.planner.traced import find_regime, name_trace, write_config
from app.services.trace_worker import TraceFailed, TraceWorker
from app.storage.planner_dir import PlannerDir

log = logging.getLogger(__name__)

_Kept = TypeVar("_Kept", TraceProfile, Replay, Linears)

MOST_REMEMBERED = 256
CALM_SECONDS = 2.0
"""What can wait is traced after so long without a plan."""
FAILURE_SECONDS = 300.0
"""A step that could not be traced is not tried again for so long: plans follow each movement of a slider."""


class Tracing:
    """The profiles that this process knows, over those on disk, over the worker."""

    def __init__(self, planner_dir: PlannerDir, worker: TraceWorker, *, enabled: bool) -> None:
        self._dir = planner_dir
        self._worker = worker
        self._enabled = enabled
        self._known: OrderedDict[str, TraceProfile] = OrderedDict()
        self._failed: dict[str, tuple[float, Notice]] = {}
        self._replays: OrderedDict[str, Replay] = OrderedDict()
        self._linears: OrderedDict[str, Linears] = OrderedDict()
        self._later: dict[str, TraceRequest | ReplayCall | LinearsCall] = {}
        self._asked_at = 0.0
        self._later_timer: threading.Timer | None = None
        self._lock = threading.Lock()
        """Held while the worker is asked: whoever asks for the same meanwhile finds the answer remembered."""

    @property
    def enabled(self) -> bool:
        """Whether plans are traced at all (AFFINAGE_TRACE_PLANS)."""
        return self._enabled

    def find(self, request: TraceRequest) -> TraceProfile | None:
        """Return a profile that was traced before, in this process or an earlier one, or None."""
        name = name_trace(request)
        if (known := self._known.get(name)) is not None:
            return known
        kept = self._dir.find_trace(name)
        if kept is not None:
            self._remember(name, kept)
        return kept

    def trace(self, request: TraceRequest) -> TraceProfile | Notice:
        """Return the profile of one variant, traced now where it has to be; a notice where it cannot."""
        if (known := self.find(request)) is not None:
            return known
        self._asked_at = time.monotonic()
        outcome = self._trace(request)
        self._asked_at = time.monotonic()
        return outcome

    def _trace(self, request: TraceRequest) -> TraceProfile | Notice:
        name = name_trace(request)
        with self._lock:
            if (known := self._known.get(name)) is not None:
                return known
            failed = self._failed.get(name)
            if failed is not None and time.monotonic() - failed[0] < FAILURE_SECONDS:
                return failed[1]
            answer = self._ask(ProfileCall(request=request))
            if isinstance(answer, Notice) or answer.profile is None:
                reason = answer if isinstance(answer, Notice) else self._explain(answer)
                self._failed[name] = (time.monotonic(), reason)
                return reason
            self._remember(name, answer.profile)
            self._keep(name, answer.profile)
            return answer.profile

    def trace_later(self, request: TraceRequest) -> None:
        """Trace a variant when nobody has asked for anything for a moment, so that a later plan finds it."""
        name = name_trace(request)
        if name not in self._failed:
            self._later[name] = request
            self._wait_for_calm()

    def find_replay(self, call: ReplayCall) -> Replay | None:
        """Return what a card's allocator makes of a step, if that was replayed before, or None."""
        name = name_trace(call)
        kept = self._replays.get(name) or self._dir.find_replay(name)
        if kept is not None:
            _put(self._replays, name, kept)
        return kept

    def replay_later(self, call: ReplayCall) -> None:
        """Replay the allocator when nobody has asked for anything for a moment: it takes seconds."""
        name = name_trace(call)
        if name not in self._failed:
            self._later[name] = call
            self._wait_for_calm()

    def find_linears(self, config: dict[str, Any]) -> Linears | None:
        """Return what the architecture of a model holds where it was asked before, or None; then it is asked later."""
        call = LinearsCall(config=write_config(config))
        name = name_trace(call)
        kept = self._linears.get(name) or self._dir.find_linears(name)
        if kept is not None:
            _put(self._linears, name, kept)
        elif self._enabled and name not in self._failed:
            self._later[name] = call
            self._wait_for_calm()
        return kept

    def list_linears(self, config: dict[str, Any]) -> Linears | Notice:
        """Return what the architecture of a model holds; a notice where the worker cannot tell, or may not be asked."""
        call = LinearsCall(config=write_config(config))
        name = name_trace(call)
        kept = self._linears.get(name) or self._dir.find_linears(name)
        if kept is not None:
            _put(self._linears, name, kept)
            return kept
        return self._list_linears(call) if self._enabled else Notice(key="not_traced.formulas")

    def _list_linears(self, call: LinearsCall) -> Linears | Notice:
        name = name_trace(call)
        with self._lock:
            if (known := self._linears.get(name)) is not None:
                return known
            failed = self._failed.get(name)
            if failed is not None and time.monotonic() - failed[0] < FAILURE_SECONDS:
                return failed[1]
            answer = self._ask(call)
            if isinstance(answer, Notice) or answer.linears is None:
                reason = answer if isinstance(answer, Notice) else self._explain(answer)
                self._failed[name] = (time.monotonic(), reason)
                return reason
            _put(self._linears, name, answer.linears)
            try:
                self._dir.write_linears(name, answer.linears)
            except OSError as problem:
                log.warning("What a model holds could not be kept: %s", problem)
            return answer.linears

    def _replay(self, call: ReplayCall) -> None:
        name = name_trace(call)
        with self._lock:
            answer = self._ask(call)
            if isinstance(answer, Notice) or answer.replay is None:
                self._failed[name] = (time.monotonic(), answer if isinstance(answer, Notice) else self._explain(answer))
                return
            _put(self._replays, name, answer.replay)
            try:
                self._dir.write_replay(name, answer.replay)
            except OSError as problem:
                log.warning("A replay could not be kept: %s", problem)

    def _wait_for_calm(self) -> None:
        if self._later_timer is not None:
            self._later_timer.cancel()
        self._later_timer = threading.Timer(CALM_SECONDS, self._trace_one_later)
        self._later_timer.daemon = True
        self._later_timer.start()

    def _trace_one_later(self) -> None:
        if self._lock.locked() or time.monotonic() - self._asked_at < CALM_SECONDS:
            self._wait_for_calm()
            return
        try:
            _, wanted = self._later.popitem()
        except KeyError:
            return
        if isinstance(wanted, ReplayCall):
            self._replay(wanted)
        elif isinstance(wanted, LinearsCall):
            self._list_linears(wanted)
        else:
            self._trace(wanted)
        if self._later:
            self._wait_for_calm()

    def warm(self) -> None:
        """Start the worker, so that the next plan need not wait for torch."""
        if self._enabled:
            self._worker.warm()

    def release(self) -> None:
        """Give the worker's memory back unless it is at work."""
        self._worker.release()

    def close(self) -> None:
        """End the worker."""
        self._later.clear()
        if self._later_timer is not None:
            self._later_timer.cancel()
        self._worker.close()

    def _ask(self, call: ProfileCall | ReplayCall | LinearsCall) -> TraceAnswer | Notice:
        try:
            return self._worker.ask(call)
        except TraceFailed as failure:
            return failure.notice

    def _explain(self, answer: TraceAnswer) -> Notice:
        return Notice(key=answer.error_key or "not_traced.crashed", params={"log": self._worker.log_name, **answer.error_params})

    def _remember(self, name: str, profile: TraceProfile) -> None:
        _put(self._known, name, profile)

    def _keep(self, name: str, profile: TraceProfile) -> None:
        try:
            self._dir.write_trace(name, profile)
        except OSError as problem:  # a full disk: the plan is right all the same
            log.warning("A traced step could not be kept: %s", problem)


def _put(known: OrderedDict[str, _Kept], name: str, value: _Kept) -> None:
    known[name] = value
    while len(known) > MOST_REMEMBERED:
        known.popitem(last=False)


def open_tracing(data_dir: Path, *, enabled: bool, idle_seconds: float) -> Tracing:
    """Return the tracing of a data folder; nothing starts yet."""
    worker = TraceWorker(data_dir / "logs" / "trace.log", idle_seconds)
    return Tracing(PlannerDir(data_dir / "planner"), worker, enabled=enabled)


def make_request(config: dict[str, Any], device: Device, values: dict[str, Resolved], length: int) -> TraceRequest:
    """Return what to trace for these values (all of them decided) at rows of `length` tokens."""
    low, high = find_regime(config, device.kind, length)
    return TraceRequest(
        config=write_config(config),
        rank=values["lora_rank"].value,
        target_modules=values["target_modules"].value,
        dropout=values["lora_dropout"].value > 0,
        dora=values["use_dora"].value,
        dtype=values["dtype"].value,
        quantization=values["quantization"].value,
        checkpointing=values["gradient_checkpointing"].value,
        device=device.kind,
        compute_capability=(device.compute_capability or (0, 0))[0],
        length_from=low,
        length_to=high,
    )
