"""Models outside the catalogue: of the hub (a small one on loopback) and of a folder; and asking whether a hub answers."""

import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.contracts.plan import ModelShape
from app.core.errors import HubUnreachable, ModelUnavailable, NotFound, Unsupported
from app.core.settings import Settings
from app.planner.shapes import SHAPES
from app.services import dataset_service, finetuning_service, planning_service
from app.services.model_rules import compute_model
from app.services.studio import Studio, open_studio
from app.storage import hub_config
from app.storage.hub_config import HubReach, fetch_config
from tests.hub.server import HubServer

GPT2_CONFIG = {"model_type": "gpt2", "n_embd": 64, "n_head": 4, "n_layer": 2, "n_positions": 128, "vocab_size": 300}
WEIGHTS = b"not read before a job starts"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    monkeypatch.setattr(hub_config.hub_reach, "_known", {})
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    opened = open_studio(Settings(data_dir=tmp_path / "data"))
    yield opened
    opened.close()


@pytest.fixture
def dataset_id(studio: Studio, tmp_path: Path) -> str:
    path = tmp_path / "pairs.csv"
    with path.open("w", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["question", "answer"])
        rows.writerows([f"Question {number}?", f"Answer {number}."] for number in range(20))
    return dataset_service.import_upload(studio, path, filename="pairs.csv", name=None).dataset_id


def files(config: object) -> dict[str, bytes | Path]:
    return {"config.json": json.dumps(config).encode(), "model.safetensors": WEIGHTS, "tokenizer.json": b"{}"}


def test_an_unknown_model_of_the_hub_is_configured_from_its_config_without_its_weights(
    hub: HubServer, studio: Studio, dataset_id: str
) -> None:
    hub.add("someone/tiny", files(GPT2_CONFIG))
    row = finetuning_service.finetune(studio, dataset_id, "someone/tiny", num_epochs=1)
    job = studio.job_dir(row.job_id).read_job()
    assert job.model.kind == "hub"
    assert not job.model.ready
    assert job.lora.target_modules == ["c_attn", "c_proj", "c_fc"]
    assert job.lora.fan_in_fan_out
    assert job.optimization.max_length == 128
    assert not any("safetensors" in request.path for request in hub.requests)


def test_the_default_model_is_preselected_where_the_hub_answers(hub: HubServer, studio: Studio) -> None:
    listed = planning_service.available(studio, "en")
    assert [(model.id, model.weights) for model in listed if model.preselected] == [("gpt2", "downloadable")]
    assert len([request for request in hub.requests if request.path.startswith("/api/models")]) == 1


def test_a_model_that_the_hub_does_not_have_is_not_found(hub: HubServer, studio: Studio, dataset_id: str) -> None:
    with pytest.raises(NotFound):
        planning_service.plan(studio, dataset_id, "someone/missing")


@pytest.mark.parametrize(
    "config", [{"model_type": "bert-like"}, {"n_embd": -1, "n_head": 2}, {"hidden_size": "big", "n_head": 2}]
)
def test_a_config_without_the_sizes_is_refused_by_the_field(
    hub: HubServer, studio: Studio, dataset_id: str, config: dict[str, object]
) -> None:
    hub.add("someone/odd", files(config))
    with pytest.raises(Unsupported) as refused:
        planning_service.plan(studio, dataset_id, "someone/odd")
    assert "field" in refused.value.params


@pytest.mark.parametrize("content", [b"[1, 2]", b"{not json", b"x" * (1 << 21)])
def test_a_config_that_is_no_json_object_is_refused(hub: HubServer, content: bytes) -> None:
    repository = hub.add("someone/broken", {"config.json": content, "model.safetensors": WEIGHTS, "tokenizer.json": b"{}"})
    with pytest.raises(ModelUnavailable):
        fetch_config("someone/broken", repository.commit)


def test_a_hub_that_breaks_down_between_two_questions_is_unreachable(hub: HubServer) -> None:
    hub.answer_everything = (503, "text/plain", b"busy")
    with pytest.raises(HubUnreachable):
        fetch_config("gpt2", "0" * 40)


def test_a_local_folder_is_planned_from_its_own_config(studio: Studio, dataset_id: str) -> None:
    folder = studio.settings.data_dir / "models" / "mine"
    folder.mkdir()
    for name, content in files(GPT2_CONFIG).items():
        assert isinstance(content, bytes)
        (folder / name).write_bytes(content)
    made = planning_service.plan(studio, dataset_id, str(folder), batch_size=2)
    assert made.resolved["target_modules"].value == ["c_attn", "c_proj", "c_fc"]
    assert made.parts.weights < 1 << 20
    assert made.model_id == str(folder)


def test_the_hub_is_asked_once_a_minute_and_a_proxy_s_refusal_is_no_answer(hub: HubServer) -> None:
    reach = HubReach()
    assert reach.answers()
    assert reach.answers()
    assert len(hub.requests) == 1
    hub.answer_everything = (403, "text/html", b"blocked")
    assert reach.answers(), "remembered"
    assert not HubReach().answers()


def test_an_old_answer_is_given_at_once_while_the_hub_is_asked_again(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_config, "REMEMBER_SECONDS", 0.0)
    reach = HubReach()
    assert reach.answers()
    hub.answer_everything = (503, "text/plain", b"down")
    assert reach.answers(), "the old answer"
    deadline = time.monotonic() + 120
    while reach.answers() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not reach.answers()


def test_a_hub_that_never_answers_is_asked_once_and_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    silent = socket.create_server(("127.0.0.1", 0))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
    reach = HubReach()
    assert not reach.answers()
    assert not reach.answers()
    silent.settimeout(0.5)
    silent.accept()[0].close()
    with pytest.raises(TimeoutError):
        silent.accept()
    silent.close()


def test_offline_mode_asks_nobody(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not HubReach().answers()
    with pytest.raises(HubUnreachable):
        fetch_config("gpt2", "0" * 40)
    assert hub.requests == []


@pytest.mark.parametrize("known", ["gpt2", "HuggingFaceTB/SmolLM2-1.7B", "Qwen/Qwen3-8B", "microsoft/phi-2"])
def test_computed_configurations_grow_more_careful_with_size(known: str) -> None:
    shape: ModelShape = SHAPES[known]
    model = compute_model("someone/model", shape, shape.family)
    assert model.batch_size * model.gradient_accumulation_steps == 16
    assert model.vram_required_gb * (1 << 30) > 2 * shape.params
    assert 1 <= model.speed_rating <= 5
    small = compute_model("someone/small", SHAPES["distilgpt2"], "gpt2")
    assert model.learning_rate <= small.learning_rate
    assert model.quality_rating >= small.quality_rating
