"""Resolving, planning and starting against a real studio in an empty data folder."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.api.schemas.models import ModelList
from app.api.schemas.plans import StartFinetuningRequest
from app.contracts.options import FinetuningOptions
from app.core.errors import AffinageError, HubUnreachable, Invalid, NotFound
from app.core.settings import Settings
from app.core.validation import localise_details
from app.services import dataset_service, finetuning_service, planning_service
from app.services.finetuning_service import MODEL_CONFIGS, ModelConfig
from app.services.resolution import resolve_values
from app.services.studio import Studio, open_studio

EMBEDDED = "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no-cache"))
    opened = open_studio(Settings(data_dir=tmp_path / "data"))
    yield opened
    opened.close()


@pytest.fixture
def dataset_id(studio: Studio, tmp_path: Path) -> str:
    path = tmp_path / "pairs.csv"
    with path.open("w", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["question", "answer"])
        rows.writerows([f"How do I reset device {number}?", f"Hold the button for {number} seconds."] for number in range(60))
    return dataset_service.import_upload(studio, path, filename="pairs.csv", name="Pairs").dataset_id


def jobs_queued(studio: Studio) -> int:
    return sum(1 for _ in (studio.settings.data_dir / "jobs").iterdir())


def test_the_user_s_value_wins_over_the_preset_s_the_model_s_and_the_default() -> None:
    entry = MODEL_CONFIGS["gpt2"]
    preset = FinetuningOptions(learning_rate=7e-4, batch_size=3, seed=1)
    values = resolve_values(FinetuningOptions(batch_size=5), entry, preset)
    assert (values["batch_size"].value, values["batch_size"].origin) == (5, "user")
    assert (values["learning_rate"].value, values["learning_rate"].origin) == (7e-4, "preset")
    assert (values["max_length"].value, values["max_length"].origin) == (512, "model")
    assert (values["num_epochs"].value, values["num_epochs"].origin) == (5, "default")
    assert (values["seed"].value, values["seed"].origin) == (1, "preset")


def test_finetune_queues_a_job_in_which_every_value_is_written_out(studio: Studio, dataset_id: str) -> None:
    row = finetuning_service.finetune(studio, dataset_id, EMBEDDED, batch_size=4, num_epochs=2, name="  ")
    job = studio.job_dir(row.job_id).read_job()
    assert row.status == "queued"
    assert job.optimization.num_epochs == 2
    assert job.optimization.micro_batch_size * job.optimization.gradient_accumulation_steps == 4
    assert job.plan.resolved["batch_size"].origin == "user"
    assert job.plan.resolved["learning_rate"].origin == "model"
    assert job.optimization.learning_rate == MODEL_CONFIGS[EMBEDDED].learning_rate
    assert job.name == "SmolLM2 135M Instruct · Pairs"
    assert job.model.kind == "embedded"
    assert job.dataset.train_rows + job.dataset.heldout_rows == 60
    assert not job.lora.fan_in_fan_out
    assert studio.job_dir(row.job_id).train_file.stat().st_size > 0


def test_plan_and_finetune_decide_the_same(studio: Studio, dataset_id: str) -> None:
    request = StartFinetuningRequest(dataset_id=dataset_id, model_name=EMBEDDED, lora_rank=4)
    planned = planning_service.plan(studio, **request.arguments())
    started = finetuning_service.finetune(studio, **request.arguments())
    assert studio.job_dir(started.job_id).read_job().plan.resolved == planned.resolved


@pytest.mark.parametrize(
    ("arguments", "error", "key"),
    [
        ({"dataset_id": "YOUR_DATASET_ID", "model_name": "meta-llama/Llama-2-7b-hf"}, NotFound, "not_found.dataset"),
        ({"model_name": "no-such-model"}, NotFound, "not_found.model"),
        ({"model_name": "gpt2"}, HubUnreachable, "hub_unreachable.offline"),
        ({"model_name": "someone/unknown"}, HubUnreachable, "hub_unreachable.offline"),
        ({"model_name": EMBEDDED, "device_id": "cuda:7"}, NotFound, "not_found.device"),
        ({"model_name": EMBEDDED, "target_modules": ["c_attn"]}, Invalid, "invalid.target_modules"),
        ({"model_name": EMBEDDED, "batch_size": 0}, Invalid, "invalid.values"),
    ],
)
def test_what_cannot_start_is_refused_before_anything_is_queued(
    studio: Studio, dataset_id: str, arguments: dict[str, object], error: type[AffinageError], key: str
) -> None:
    with pytest.raises(error) as refused:
        finetuning_service.finetune(studio, **{"dataset_id": dataset_id, **arguments})  # type: ignore[arg-type]
    assert refused.value.key == key
    assert refused.value.text("fr") != refused.value.text("en")
    assert jobs_queued(studio) == 0


def test_refused_values_name_each_field_in_the_reader_s_language(studio: Studio, dataset_id: str) -> None:
    with pytest.raises(Invalid) as refused:
        finetuning_service.finetune(studio, dataset_id, "gpt2", batch_size=0, lr_scheduler="steps")  # type: ignore[arg-type]
    details = {detail["field"]: detail["message"] for detail in localise_details(refused.value.details, "fr")}
    assert details["batch_size"] == "doit être au moins 1"
    assert details["lr_scheduler"] == "doit être l’une des valeurs 'linear', 'cosine', 'constant'"


def test_a_model_whose_weights_are_not_here_can_be_planned_all_the_same(studio: Studio, dataset_id: str) -> None:
    made = planning_service.plan(studio, dataset_id, "gpt2")
    assert made.peak_bytes > 0
    assert "lengths_estimated" in [reason.key for reason in made.reasons]


def test_the_list_holds_the_whole_catalogue_in_order_with_what_is_ready(studio: Studio) -> None:
    models = ModelList.of(planning_service.available(studio, "fr")).models
    assert [model.id for model in models] == list(MODEL_CONFIGS)
    by_id = {model.id: model for model in models}
    assert by_id["gpt2"].name == "GPT-2 (124M)"
    assert by_id["gpt2"].weights == "unreachable"
    assert by_id["gpt2"].description == "Modèle par défaut, bon compromis, hardware moyen."
    assert by_id[EMBEDDED].weights == "ready"
    assert [model.id for model in models if model.preselected] == [EMBEDDED]
    assert "GPT-2 (124M)" in (by_id[EMBEDDED].preselected_reason or "")


def test_an_entry_that_one_pastes_in_appears_and_can_be_planned(
    studio: Studio, dataset_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pasted = ModelConfig(
        name="meta-llama/Llama-2-7b-hf", display_name="Llama 2 7B", batch_size=1, max_length=512, lora_rank=16, lora_alpha=32,
        gradient_accumulation_steps=16, learning_rate=1e-4, target_modules=["q_proj", "down_proj"], vram_required_gb=14.0,
        quality_rating=5, speed_rating=2, description="Excellent quality, requires 16GB+ VRAM",
    )  # fmt: skip
    monkeypatch.setitem(MODEL_CONFIGS, "fresh-key", pasted)
    listed = {model.id: model for model in planning_service.available(studio, "en")}
    assert listed["fresh-key"].params == 6_738_415_616
    assert planning_service.plan(studio, dataset_id, "fresh-key").resolved["gradient_accumulation_steps"].value == 16
