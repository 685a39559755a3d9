"""The specification's memory figures against a trace of our engine's own training step, not against a formula."""

from dataclasses import replace

import pytest

from app.contracts.options import Quantization
from app.contracts.trace import TraceRequest
from app.planner.configs import write_shape_config
from app.planner.fit import make_plan
from app.planner.shapes import find_shape
from app.planner.trace.profiling import trace_profile
from app.planner.traced import write_config
from app.services.finetuning_service import MODEL_CONFIGS
from tests.unit.planner.test_fit import device, plan_request, rows_of

GIB = 1 << 30


@pytest.mark.parametrize(
    ("model_id", "quantization", "gigabytes"),
    [
        ("distilgpt2", "none", 1.5),
        ("gpt2", "none", 2.0),
        ("gpt2-medium", "none", 3.5),
        ("gpt2-large", "none", 5.0),
        ("meta-llama/Llama-2-7b-hf", "none", 14.0),
        ("microsoft/phi-2", "nf4", 6.0),
    ],
)
def test_a_traced_step_at_the_entry_s_own_batch_size_stays_below_the_stated_memory(
    model_id: str, quantization: Quantization, gigabytes: float
) -> None:
    entry, shape = MODEL_CONFIGS[model_id], find_shape(model_id)
    assert shape is not None
    profile = trace_profile(
        TraceRequest(
            config=write_config(write_shape_config(shape)),
            rank=entry.lora_rank,
            target_modules=entry.target_modules,
            dtype="bfloat16",
            quantization=quantization,
            checkpointing=True,
            device="cuda",
            compute_capability=8,
        )
    )
    request = plan_request(
        model_id, device(80), rows_of(512), max_length=512, gradient_checkpointing=True, quantization=quantization
    )
    formula = make_plan(request, explore=False)
    traced = make_plan(replace(request, profiles=(profile,)), explore=False)
    assert (formula.memory_method, traced.memory_method) == ("closed_form", "traced")
    assert traced.resolved["batch_size"].value == entry.batch_size
    assert traced.parts.context > 0
    assert traced.peak_bytes <= gigabytes * GIB
    # What the sliders show while nothing is traced yet: close, and never much too low.
    assert 0.98 < formula.peak_bytes / traced.peak_bytes < 1.15
