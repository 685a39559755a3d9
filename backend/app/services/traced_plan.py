"""A plan whose memory comes from a traced step: plan, trace what the plan chose, plan again until the choice is traced."""

from dataclasses import replace
from typing import Any

from app.contracts.plan import Notice, Plan, ReservedMethod
from app.contracts.trace import ReplayCall, TraceProfile, TraceRequest
from app.jobs.executors.environment import card_allocator_expands
from app.planner.fit import make_plan
from app.planner.request import PlanRequest
from app.planner.run_shape import count_group, count_largest
from app.planner.traced import name_trace
from app.services.tracing_service import Tracing, make_request

NOT_TRACED = "not_traced"
"""Code of the notices that say that formulas answer instead."""
ROUNDS = 4
"""A traced variant may need more than its formula said, so that another one is chosen; there are few to choose from."""


def make_traced_plan(tracing: Tracing, request: PlanRequest, config: dict[str, Any] | None) -> Plan:
    """Return the plan of a request, its chosen variant traced where that can be done, else with the reason why not.

    The same variant with or without recomputation is traced as well: at once when it is known, else while nobody waits.
    """
    if config is None or not tracing.enabled:
        return make_plan(request)
    profiles: dict[str, TraceProfile] = {}
    for _ in range(ROUNDS):
        plan = make_plan(replace(request, profiles=tuple(profiles.values())), explore=bool(profiles))
        chosen = describe_variant(request, plan, config)
        if name_trace(chosen) in profiles:
            return add_reserved(tracing, request, plan, chosen)
        twin = chosen.model_copy(update={"checkpointing": not chosen.checkpointing})
        outcome = tracing.trace(chosen)
        if isinstance(outcome, Notice):
            formulas = make_plan(request)
            told = [outcome] if outcome.code == NOT_TRACED else [outcome, Notice(key=f"{NOT_TRACED}.formulas")]
            return formulas.model_copy(update={"reasons": [*formulas.reasons, *told]})
        profiles[name_trace(chosen)] = outcome
        if (known := tracing.find(twin)) is not None:
            profiles[name_trace(twin)] = known
        else:
            tracing.trace_later(twin)
    return make_plan(replace(request, profiles=tuple(profiles.values())))


def make_known_plan(tracing: Tracing, request: PlanRequest, config: dict[str, Any] | None) -> Plan:
    """Return the plan of a request, its chosen variant from a trace that is known already; nothing is traced.

    For lists of models: quick for all of them, and the same numbers as the plan of a model that was looked at before.
    """
    plan = make_plan(request, explore=False)
    if config is None or not tracing.enabled:
        return plan
    profiles: dict[str, TraceProfile] = {}
    for _ in range(ROUNDS):
        chosen = describe_variant(request, plan, config)
        if name_trace(chosen) in profiles:
            break
        for variant in (chosen, chosen.model_copy(update={"checkpointing": not chosen.checkpointing})):
            if (known := tracing.find(variant)) is not None:
                profiles[name_trace(variant)] = known
        if name_trace(chosen) not in profiles:
            break
        plan = make_plan(replace(request, profiles=tuple(profiles.values())), explore=False)
    return plan


def describe_variant(request: PlanRequest, plan: Plan, config: dict[str, Any]) -> TraceRequest:
    """Return what to trace for a plan: the variant that it chose, at the length of its longest row."""
    longest = request.lengths.longest or plan.resolved["max_length"].value
    return make_request(config, request.device, plan.resolved, min(plan.resolved["max_length"].value, longest))


def add_reserved(tracing: Tracing, request: PlanRequest, plan: Plan, traced: TraceRequest) -> Plan:
    """Return the plan with what a card's allocator will reserve, if that was replayed before; else ask for it for later."""
    if request.device.kind != "cuda" or plan.memory_method != "traced":
        return plan
    call = describe_replay(request, plan, traced)
    if (found := tracing.find_replay(call)) is None:
        tracing.replay_later(call)
        return plan
    method: ReservedMethod = "replayed_expandable" if call.expandable else "replayed"
    return plan.model_copy(update={"reserved_bytes": found.reserved_bytes, "reserved_method": method})


def describe_replay(request: PlanRequest, plan: Plan, traced: TraceRequest) -> ReplayCall:
    """Return the steps to replay for a plan: a micro-batch of usual rows, then one of the longest, all tokens trained."""
    most = plan.resolved["max_length"].value
    longest = min(most, request.lengths.longest or most)
    group = count_group(plan.resolved["method"].value or "sft")
    rows = count_largest(plan.resolved["batch_size"].value, request.train_rows or most, group)
    usual = sorted(request.lengths.quantiles)[len(request.lengths.quantiles) // 2] if request.lengths.quantiles else longest
    earlier = max(1, min(longest, round(usual)))
    return ReplayCall(
        request=traced,
        batch=rows,
        length=longest,
        labels=rows * longest,
        earlier_length=earlier if earlier != longest else None,
        expandable=card_allocator_expands(),
    )
