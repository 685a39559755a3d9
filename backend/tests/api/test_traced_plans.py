"""Plans that follow a real step in the real worker, as a server makes them: no weights, no formula for the family."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.core.settings import Settings
from app.main import create_app
from tests.api.conftest import ADDRESS, dataset_id

GPT_NEOX = {
    "model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"], "hidden_size": 64, "intermediate_size": 256,
    "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 500, "max_position_embeddings": 256,
}  # fmt: skip


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("traced") / "data", trace_plans=True)
    with TestClient(create_app(settings), base_url=ADDRESS, raise_server_exceptions=False) as made:
        yield made


def data_dir(client: TestClient) -> Path:
    found: Path = client.app.state.studio.settings.data_dir  # type: ignore[attr-defined]
    return found


def plan(client: TestClient, model: str, **options: Any) -> dict[str, Any]:
    data = options.pop("dataset_id", None) or dataset_id(client)
    answer = client.post("/api/plans", json={"dataset_id": data, "model_name": model, **options})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def add(client: TestClient, config: dict[str, Any], name: str) -> str:
    folder = data_dir(client) / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    assert client.post("/api/models", json={"model": str(folder)}).status_code == 201
    return str(folder)


def test_a_model_of_the_catalogue_is_traced_before_it_is_here(client: TestClient) -> None:
    found = plan(client, "distilgpt2")
    assert found["memory_method"] == "traced"
    assert sum(found["parts"].values()) == found["peak_bytes"]
    assert list((data_dir(client) / "planner" / "traces").glob("*.json"))


def test_a_family_without_formulas_is_traced_from_its_config_alone(client: TestClient) -> None:
    found = plan(client, add(client, GPT_NEOX, "neox"))
    assert found["memory_method"] == "traced"
    assert found["resolved"]["target_modules"]["value"] == ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]


def test_a_model_type_that_nobody_knows_is_planned_by_formula_with_the_reason(client: TestClient) -> None:
    found = plan(client, add(client, GPT_NEOX | {"model_type": "of_my_own"}, "unknown"))
    assert found["memory_method"] == "closed_form"
    told = {reason["code"]: reason["message"] for reason in found["reasons"]}
    assert "model_type" in told["unsupported"] and "formulas" in told["not_traced"]


def find_recommended(client: TestClient, dataset: str, model: str) -> dict[str, Any]:
    answer = client.get(f"/api/models/recommended?dataset_id={dataset}").json()
    found: dict[str, Any] = next(entry for entry in answer["models"] if entry["id"] == model)
    return found


def test_a_list_of_models_uses_the_traces_that_are_known_and_makes_none(client: TestClient) -> None:
    data = dataset_id(client)
    traces = data_dir(client) / "planner" / "traces"
    known = len(list(traces.glob("*.json")))
    before = find_recommended(client, data, "gpt2")
    assert len(list(traces.glob("*.json"))) == known
    planned = plan(client, "gpt2", dataset_id=data)
    after = find_recommended(client, data, "gpt2")
    assert planned["memory_method"] == "traced"
    assert after["peak_bytes"] == planned["peak_bytes"] != before["peak_bytes"]
    assert after["seconds_p50"] == pytest.approx(planned["seconds_p50"])


def test_the_layers_of_a_type_that_no_rule_knows_are_read_from_its_architecture_once(client: TestClient) -> None:
    config = GPT_NEOX | {"model_type": "gptj", "architectures": ["GPTJForCausalLM"], "rotary_dim": 8}
    kept = data_dir(client) / "planner" / "linears"
    known = len(list(kept.glob("*.json")))
    model = add(client, config, "gptj")
    listed = client.get("/api/models/available").json()["models"]
    layers = next(entry["target_modules"] for entry in listed if entry["id"] == model)
    assert set(layers) == {"q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_out"}
    assert plan(client, model)["memory_method"] == "traced"
    assert len(list(kept.glob("*.json"))) == known + 1


MIXTRAL = {
    "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000,
    "max_position_embeddings": 32768, "num_local_experts": 8, "num_experts_per_tok": 2, "tie_word_embeddings": False,
}  # fmt: skip


def test_every_expert_counts_in_the_list_in_the_ranking_and_in_the_plan(client: TestClient) -> None:
    model = add(client, MIXTRAL, "mixtral")
    listed = client.get("/api/models/available").json()["models"]
    entry = next(found for found in listed if found["id"] == model)
    assert entry["params"] == 46_702_792_704
    assert entry["vram_required_gb"] * 2**30 > 2 * entry["params"]
    ranked = client.get("/api/models/recommended?vram_gb=24").json()["models"]
    place = next(found for found in ranked if found["id"] == model)
    assert place["verdict"] == "does_not_fit" and not place["recommended"]
    assert plan(client, model)["parts"]["weights"] == pytest.approx(2 * entry["params"], rel=0.01)


@pytest.mark.parametrize("model_type", ["bert", "t5"])
def test_an_encoder_that_does_not_name_its_architecture_is_refused(client: TestClient, model_type: str) -> None:
    folder = data_dir(client) / model_type
    folder.mkdir()
    config = {name: value for name, value in GPT_NEOX.items() if name != "architectures"} | {"model_type": model_type}
    (folder / "config.json").write_text(json.dumps(config))
    answer = client.post("/api/models", json={"model": str(folder)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported")
    assert "does not continue text" in answer.json()["error"]["message"]


def test_blocks_that_differ_are_planned_by_formula_with_the_reason(client: TestClient) -> None:
    sizes = {"intermediate_size": 128, "num_key_value_heads": 2, "num_hidden_layers": 6, "vocab_size": 500, "head_dim": 16}
    experts = {"num_experts": 8, "moe_intermediate_size": 64, "decoder_sparse_step": 2}
    config = GPT_NEOX | sizes | experts | {"model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"]}
    found = plan(client, add(client, config, "uneven"))
    assert found["memory_method"] == "closed_form"
    assert any("differ from one another" in reason["message"] for reason in found["reasons"])
