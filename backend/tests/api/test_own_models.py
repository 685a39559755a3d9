"""Models of one's own: added from config.json alone, listed, planned, removed, and still there after a restart."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.core.settings import Settings
from app.main import create_app
from app.storage import hub_config
from tests.api.conftest import ADDRESS, FRENCH, check_error, dataset_id
from tests.hub.server import HubServer

LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 128,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 300,
    "max_position_embeddings": 256, "tie_word_embeddings": True,
}  # fmt: skip


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    monkeypatch.setattr(hub_config.hub_reach, "_known", {})
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


def files(config: object) -> dict[str, bytes | Path]:
    return {"config.json": json.dumps(config).encode(), "model.safetensors": b"never read", "tokenizer.json": b"{}"}


def write_folder(settings: Settings, config: object, name: str = "mine") -> Path:
    folder = settings.data_dir / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return folder


def listed(client: TestClient, model_id: str) -> dict[str, Any] | None:
    models = client.get("/api/models/available").json()["models"]
    return next((model for model in models if model["id"] == model_id), None)


def test_a_model_of_the_hub_is_added_without_fetching_its_weights(hub: HubServer, client: TestClient) -> None:
    hub.add("someone/tiny-llama", files(LLAMA))
    answer = client.post("/api/models", json={"model": " someone/tiny-llama "})
    assert answer.status_code == 201, answer.text
    added = answer.json()
    assert (added["id"], added["added"], added["weights"]) == ("someone/tiny-llama", True, "downloadable")
    assert added["target_modules"] == ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    assert (added["max_length"], added["context_length"]) == (256, 256)
    assert added["vram_required_gb"] > 0 and 1 <= added["quality_rating"] <= 5 and added["description"]
    assert not any("safetensors" in request.path for request in hub.requests)
    assert listed(client, "someone/tiny-llama") == added


def test_an_added_model_survives_a_restart_and_needs_no_network_for_a_plan(
    hub: HubServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("someone/tiny-llama", files(LLAMA))
    with TestClient(create_app(settings), base_url=ADDRESS) as client:
        assert client.post("/api/models", json={"model": "someone/tiny-llama"}).status_code == 201
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = len(hub.requests)
    with TestClient(create_app(settings), base_url=ADDRESS) as client:
        found = listed(client, "someone/tiny-llama")
        assert found is not None and found["added"]
        plan = client.post("/api/plans", json={"dataset_id": dataset_id(client), "model_name": "someone/tiny-llama"})
        assert plan.status_code == 200 and plan.json()["peak_bytes"] > 0
    assert len(hub.requests) == asked


def test_a_folder_needs_only_its_config(client: TestClient, settings: Settings) -> None:
    folder = write_folder(settings, LLAMA)
    answer = client.post("/api/models", json={"model": f"{folder}/"})
    assert answer.status_code == 201, answer.text
    assert (answer.json()["id"], answer.json()["name"], answer.json()["weights"]) == (str(folder), "mine", "unreachable")
    body = {"dataset_id": dataset_id(client), "model_name": str(folder)}
    assert client.post("/api/plans", json=body).status_code == 200
    check_error(client.post("/api/start-finetuning", json=body), 409, "model_unavailable")


def test_a_removed_model_is_listed_no_more(client: TestClient, settings: Settings) -> None:
    folder = write_folder(settings, LLAMA)
    assert client.post("/api/models", json={"model": str(folder)}).status_code == 201
    assert client.delete(f"/api/models/{folder}").status_code == 204
    assert listed(client, str(folder)) is None
    assert (folder / "config.json").is_file()
    check_error(client.delete(f"/api/models/{folder}"), 404, "not_found")


def test_a_model_of_the_catalogue_can_be_neither_added_nor_removed(client: TestClient) -> None:
    check_error(client.post("/api/models", json={"model": "gpt2"}), 409, "conflict")
    check_error(client.delete("/api/models/gpt2"), 404, "not_found")
    assert listed(client, "gpt2") is not None


def test_a_model_is_added_once(client: TestClient, settings: Settings) -> None:
    folder = str(write_folder(settings, LLAMA))
    assert client.post("/api/models", json={"model": folder}).status_code == 201
    check_error(client.post("/api/models", json={"model": folder}), 409, "conflict")


@pytest.mark.parametrize("field", ["hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size", "model_type"])
def test_a_config_without_a_field_names_the_field(client: TestClient, settings: Settings, field: str) -> None:
    folder = write_folder(settings, {name: value for name, value in LLAMA.items() if name != field})
    error = check_error(client.post("/api/models", json={"model": str(folder)}), 415, "unsupported")
    assert field in error["message"]
    assert listed(client, str(folder)) is None


@pytest.mark.parametrize("field, value", [("hidden_size", -64), ("vocab_size", 0), ("num_hidden_layers", "many")])
def test_a_senseless_size_names_the_field(client: TestClient, settings: Settings, field: str, value: object) -> None:
    folder = write_folder(settings, LLAMA | {field: value})
    assert field in check_error(client.post("/api/models", json={"model": str(folder)}), 415, "unsupported")["message"]


def test_a_model_that_does_not_continue_text_is_refused(client: TestClient, settings: Settings) -> None:
    encoder = write_folder(settings, LLAMA | {"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "encoder")
    error = check_error(client.post("/api/models", json={"model": str(encoder)}, headers=FRENCH), 415, "unsupported")
    assert "BertForMaskedLM" in error["message"] and "prolonge" in error["message"]
    translator = write_folder(settings, LLAMA | {"is_encoder_decoder": True}, "translator")
    check_error(client.post("/api/models", json={"model": str(translator)}), 415, "unsupported")


@pytest.mark.parametrize("config", ["", "{", "[1, 2]", "null"])
def test_a_config_that_is_no_object_is_refused(client: TestClient, settings: Settings, config: str) -> None:
    folder = write_folder(settings, config)
    check_error(client.post("/api/models", json={"model": str(folder)}), 409, "model_unavailable")


def test_unknown_names_and_places_are_refused(hub: HubServer, client: TestClient, tmp_path: Path) -> None:
    check_error(client.post("/api/models", json={"model": "no-such-model"}), 404, "not_found")
    check_error(client.post("/api/models", json={"model": "no/such-model"}), 404, "not_found")
    check_error(client.post("/api/models", json={"model": str(tmp_path)}), 403, "forbidden")
    for body in ({"model": ""}, {"model": "   "}, {"model": 3}, {}):
        check_error(client.post("/api/models", json=body), 422, "invalid")


def test_without_a_network_the_hub_is_named_as_the_reason(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    check_error(client.post("/api/models", json={"model": "someone/tiny-llama"}), 503, "hub_unreachable")


@pytest.mark.parametrize("packed, kind", [({"quant_method": "gptq", "bits": 4}, "gptq"), ({"bits": 4}, "?"), ("gptq", "?")])
def test_weights_that_are_stored_packed_are_told(client: TestClient, settings: Settings, packed: object, kind: str) -> None:
    folder = write_folder(settings, LLAMA | {"quantization_config": packed})
    assert client.post("/api/models", json={"model": str(folder)}).status_code == 201
    found = client.post("/api/plans", json={"dataset_id": dataset_id(client), "model_name": str(folder)}).json()
    told = {reason["code"]: reason["message"] for reason in found["reasons"]}
    assert f"packed ({kind})" in told["weights_packed"]
