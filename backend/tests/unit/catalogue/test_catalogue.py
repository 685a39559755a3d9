"""The catalogue holds what the specification says, and takes what one pastes into it."""

import importlib.util
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from types import ModuleType

import pytest

from app.contracts.hardware import Device
from app.contracts.options import FinetuningOptions
from app.contracts.plan import Plan
from app.planner.fit import PlanRequest, make_plan
from app.planner.run_shape import RowLengths
from app.planner.shapes import count_params, find_linears, find_shape
from app.services import finetuning_service
from app.services.finetuning_service import MODEL_CONFIGS, ModelConfig
from app.services.resolution import resolve_values

GIB = 1 << 30
SPECIFICATION = {
    "distilgpt2": ("DistilGPT-2 (82M)", 1.5, 2, 5, 16, 5e-4),
    "gpt2": ("GPT-2 (124M)", 2.0, 2, 5, 8, 3e-4),
    "gpt2-medium": ("GPT-2 Medium (355M)", 3.5, 3, 4, 4, 2e-4),
    "gpt2-large": ("GPT-2 Large (774M)", 5.0, 4, 3, 2, 1e-4),
}
USE_CASES = {
    "distilgpt2": "Tests rapides, hardware très limité, expérimentations",
    "gpt2": "Modèle par défaut, bon compromis, hardware moyen",
    "gpt2-medium": "Meilleure qualité sans trop sacrifier la vitesse",
    "gpt2-large": "Haute qualité, nécessite 6GB+ VRAM",
}
LLAMA_EXAMPLE = """
    "{key}": ModelConfig(
        name="meta-llama/Llama-2-7b-hf",
        display_name="Llama 2 7B",
        batch_size=1,
        max_length=512,
        lora_rank=16,
        lora_alpha=32,
        gradient_accumulation_steps=16,
        learning_rate=1e-4,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", 
                       "gate_proj", "up_proj", "down_proj"],
        vram_required_gb=14.0,
        quality_rating=5,
        speed_rating=2,
        description="Excellent quality, requires 16GB+ VRAM"
    ),
"""

entries = pytest.mark.parametrize("model_id", MODEL_CONFIGS)


def card(gigabytes: float) -> Device:
    size = round(gigabytes * GIB)
    return Device(
        id="cuda:0",
        kind="cuda",
        name="RTX 3090",
        memory_total_bytes=size,
        memory_free_bytes=size,
        bf16=True,
        compute_capability=(8, 6),
    )


def plan_entry(model_id: str, entry: ModelConfig, device: Device, **chosen: object) -> Plan:
    return make_plan(
        PlanRequest(
            model_id=model_id,
            model_name=entry.display_name,
            shape=find_shape(entry.name),
            vram_required_gb=entry.vram_required_gb,
            device=device,
            available_bytes=device.memory_free_bytes,
            values=resolve_values(FinetuningOptions.model_validate(chosen), entry),
            lengths=RowLengths((entry.max_length,) * 21, measured=True),
            train_rows=200,
            heldout_rows=20,
            nf4_usable=True,
        )
    )


def test_the_first_13_fields_are_the_specification_s_in_its_order_and_all_others_have_defaults() -> None:
    names = [field.name for field in fields(ModelConfig)]
    assert names[:13] == [
        "name", "display_name", "batch_size", "max_length", "lora_rank", "lora_alpha", "gradient_accumulation_steps",
        "learning_rate", "target_modules", "vram_required_gb", "quality_rating", "speed_rating", "description",
    ]  # fmt: skip
    assert all(field.default is not MISSING or field.default_factory is not MISSING for field in fields(ModelConfig)[13:])


@pytest.mark.parametrize("model_id", SPECIFICATION)
def test_the_specified_models_carry_the_specification_s_numbers(model_id: str) -> None:
    entry = MODEL_CONFIGS[model_id]
    stars = entry.quality_rating, entry.speed_rating
    assert (entry.display_name, entry.vram_required_gb, *stars, entry.batch_size, entry.learning_rate) == SPECIFICATION[model_id]
    assert entry.max_length == 512
    assert entry.describe("fr").removesuffix(".") == USE_CASES[model_id]


def test_the_catalogue_begins_with_the_specified_models_and_only_gpt2_is_the_default() -> None:
    assert list(MODEL_CONFIGS)[:4] == list(SPECIFICATION)
    assert [model_id for model_id, entry in MODEL_CONFIGS.items() if entry.is_default] == ["gpt2"]


def test_planned_models_are_there() -> None:
    assert MODEL_CONFIGS["gpt2-xl"].vram_required_gb == 8.0
    assert MODEL_CONFIGS["mistralai/Mistral-7B-v0.3"].quantization == "nf4"
    assert MODEL_CONFIGS["meta-llama/Llama-2-7b-hf"].vram_required_gb == 14.0
    assert MODEL_CONFIGS["HuggingFaceTB/SmolLM2-135M-Instruct"].embedded
    assert "microsoft/phi-2" in MODEL_CONFIGS


@entries
def test_every_value_lies_in_the_range_that_a_person_may_choose(model_id: str) -> None:
    entry = MODEL_CONFIGS[model_id]
    assert entry.name == model_id
    FinetuningOptions(
        batch_size=entry.batch_size,
        max_length=entry.max_length,
        lora_rank=entry.lora_rank,
        lora_alpha=entry.lora_alpha,
        gradient_accumulation_steps=entry.gradient_accumulation_steps,
        learning_rate=entry.learning_rate,
        target_modules=entry.target_modules,
        quantization=entry.quantization,
    )
    assert 1 <= entry.quality_rating <= 5
    assert 1 <= entry.speed_rating <= 5
    assert entry.vram_required_gb > 0
    assert entry.licence


@entries
def test_every_entry_is_described_in_both_languages(model_id: str) -> None:
    entry = MODEL_CONFIGS[model_id]
    assert entry.describe("en") == entry.description
    assert len(entry.description) > 15
    assert len(entry.description_fr) > 15
    assert entry.description_fr != entry.description


@entries
def test_the_shape_is_known_and_its_sizes_give_the_stated_parameters(model_id: str) -> None:
    shape = find_shape(model_id)
    assert shape is not None
    assert count_params(shape) == shape.params
    assert set(MODEL_CONFIGS[model_id].target_modules) <= set(find_linears(shape))
    assert MODEL_CONFIGS[model_id].max_length <= shape.context


CARDS = {
    "Ampere": card(80),
    "Turing": card(80).model_copy(update={"name": "Tesla T4", "compute_capability": (7, 5), "bf16": False}),
    "Hopper": card(80).model_copy(update={"name": "H100", "compute_capability": (9, 0)}),
}
"""Native precision and the libraries' workspace differ between generations; 80 GB, so that nothing is made to fit."""


@pytest.mark.parametrize("generation", CARDS)
@entries
def test_the_stated_memory_is_a_promise_that_holds_at_the_entry_s_own_batch_size(model_id: str, generation: str) -> None:
    """1 GB is 2**30 bytes, the CUDA context is counted in; recomputation is ours to choose, 4 bits only if the entry says so."""
    entry, device = MODEL_CONFIGS[model_id], CARDS[generation]
    plan = plan_entry(model_id, entry, device, max_length=512, gradient_checkpointing=True, quantization=entry.quantization)
    chosen = {name: plan.resolved[name].value for name in ("batch_size", "max_length", "quantization")}
    assert chosen == {"batch_size": entry.batch_size, "max_length": 512, "quantization": entry.quantization}
    assert plan.parts.context > 0
    assert plan.peak_bytes <= entry.vram_required_gb * GIB


def test_phi_2_which_the_specification_calls_impossible_fits_on_6_gb() -> None:
    plan = plan_entry("microsoft/phi-2", MODEL_CONFIGS["microsoft/phi-2"], card(6.0))
    assert plan.verdict == "fits"
    assert plan.resolved["quantization"].value == "nf4"
    assert plan.peak_bytes_upper <= 6 * GIB


@entries
def test_the_stated_memory_holds_the_plan_that_is_made_for_such_a_card(model_id: str) -> None:
    entry = MODEL_CONFIGS[model_id]
    plan = plan_entry(model_id, entry, card(entry.vram_required_gb))
    assert plan.verdict == "fits"
    assert plan.resolved["max_length"].value == entry.max_length
    product = plan.resolved["batch_size"].value * plan.resolved["gradient_accumulation_steps"].value
    assert product == entry.batch_size * entry.gradient_accumulation_steps


def import_with(pasted: str, path: Path) -> ModuleType:
    """Import a copy of the module with `pasted` added at the end of MODEL_CONFIGS, as a person would."""
    text = Path(finetuning_service.__file__).read_text("utf-8")
    end = text.index("\n}", text.index("MODEL_CONFIGS: dict[str, ModelConfig] = {"))
    path.write_text(text[:end] + pasted.rstrip() + text[end:], "utf-8")
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module
    try:
        specification.loader.exec_module(module)
    finally:
        del sys.modules[path.stem]
    return module


@pytest.mark.parametrize("key", ["meta-llama/Llama-2-7b-hf", "llama-2-again"])
def test_the_specification_s_own_example_can_be_pasted_and_planned(tmp_path: Path, key: str) -> None:
    module = import_with(LLAMA_EXAMPLE.replace("{key}", key), tmp_path / "pasted_finetuning_service.py")
    entry = module.MODEL_CONFIGS[key]
    assert entry.description == entry.describe("fr") == "Excellent quality, requires 16GB+ VRAM"
    assert not entry.is_default
    plan = plan_entry(key, entry, card(24))
    assert plan.verdict == "fits"
    assert plan.model_id == key
    assert 12 * GIB < plan.parts.weights < 13 * GIB
    assert plan.resolved["gradient_accumulation_steps"].value == 16
    assert len(module.MODEL_CONFIGS) == len(MODEL_CONFIGS | {key: entry})


def test_a_pasted_model_that_nobody_knows_still_gets_a_rough_plan_that_says_so(tmp_path: Path) -> None:
    pasted = LLAMA_EXAMPLE.replace("{key}", "someone/new-7b").replace("meta-llama/Llama-2-7b-hf", "someone/new-7b")
    entry = import_with(pasted, tmp_path / "pasted_unknown.py").MODEL_CONFIGS["someone/new-7b"]
    plan = plan_entry("someone/new-7b", entry, card(24))
    assert plan.peak_bytes == pytest.approx(14 * GIB, rel=0.01)
    assert "shape_unknown" in [reason.key for reason in plan.reasons]
    assert plan.seconds_p50 > 60
