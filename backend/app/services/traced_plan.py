"""A plan whose memory comes from a traced step: plan, trace what the plan chose, plan again until the choice is traced."""

from dataclasses import replace
from typing import Any

from app.contracts.plan import Notice, Plan
from app.contracts.trace import TraceProfile, TraceRequest
from app.planner.fit import make_plan
from app.planner.request import PlanRequest
from app.planner.traced import name_trace
from app.services.tracing_service import Tracing, make_request

ROUNDS = 4
"""A traced variant may need more than its formula said, so that another one is chosen; there are few to choose from."""


def make_traced_plan(tracing: Tracing, request: PlanRequest, config: dict[str, Any] | None) -> Plan:
    """Return the plan of a request, its chosen variant traced where that can be done, else with the reason why not."""
    if config is None or not tracing.enabled:
        return make_plan(request)
    profiles: dict[str, TraceProfile] = {}
    for _ in range(ROUNDS):
        chosen = make_plan(replace(request, profiles=tuple(profiles.values())), explore=False)
        wanted = {name_trace(variant): variant for variant in list_variants(request, chosen, config)}
        missing = {name: variant for name, variant in wanted.items() if name not in profiles}
        if not missing:
            break
        for name, variant in missing.items():
            outcome = tracing.trace(variant)
            if isinstance(outcome, Notice):
                plan = make_plan(request)
                return plan.model_copy(update={"reasons": [*plan.reasons, outcome]})
            profiles[name] = outcome
    return make_plan(replace(request, profiles=tuple(profiles.values())))


def list_variants(request: PlanRequest, plan: Plan, config: dict[str, Any]) -> list[TraceRequest]:
    """Return what to trace for a plan: the variant that it chose, and the same with or without recomputation."""
    longest = request.lengths.longest or plan.resolved["max_length"].value
    length = min(plan.resolved["max_length"].value, longest)
    chosen = make_request(config, request.device, plan.resolved, length)
    twin = chosen.model_copy(update={"checkpointing": not chosen.checkpointing})
    return [chosen, twin]
