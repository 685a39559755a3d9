"""A small profile, and requests whose model type tells the scripted worker how to behave."""

import json

from app.contracts.trace import Affine, Hump, StepCosts, TraceProfile, TraceRequest


def make_request(behaviour: str = "fine", rank: int = 8) -> TraceRequest:
    config = json.dumps({"model_type": behaviour})
    return TraceRequest(config=config, rank=rank, target_modules=["q_proj"], dtype="float32", checkpointing=False, device="cpu")


def make_profile(request: TraceRequest) -> TraceProfile:
    nothing = Affine()
    hump = Hump(
        phase="backward", weights=Affine(constant=1e9), adapter=nothing, gradients=nothing, optimizer=nothing,
        activations=Affine(per_token=1e5), logits=nothing, workspace=nothing,
    )  # fmt: skip
    costs = StepCosts(**dict.fromkeys(StepCosts.model_fields, nothing))
    return TraceProfile(
        request=request, layers=2, params=1000, adapter_params=10, chunk_rows=256, humps=[hump], micro=costs, evaluation=costs,
        update=costs, trace_seconds=0.1, versions={},
    )  # fmt: skip
