"""Methods and continued adapters through HTTP: chosen from the rows, refused where they do not fit, trained for real."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.core.settings import Settings
from app.main import create_app
from tests.api.conftest import ADDRESS, check_error
from tests.api.test_jobs import dataset_id, wait_for

PAIR = [{"prompt": f"Number {i}?", "chosen": f"It is {i}.", "rejected": "No idea, go away, please."} for i in range(12)]
JUDGED = [{"prompt": f"Number {i}?", "completion": f"It is {i}.", "label": i % 2 == 0} for i in range(12)]
TEXTS = [{"text": f"Once upon a time there was a number {i}. " * 5} for i in range(6)]
CLASSES = [{"text": f"Number {i}", "label": "even" if i % 2 == 0 else "odd"} for i in range(12)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[TestClient]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("server") / "data", model_roots=str(tiny_model.parent), stop_grace_seconds=5.0
    )
    with TestClient(create_app(settings), base_url=ADDRESS) as client:
        yield client


def upload(server: TestClient, rows: list[dict[str, Any]]) -> dict[str, Any]:
    answer = server.post("/api/datasets", files={"file": ("rows.json", json.dumps(rows).encode())})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def plan(server: TestClient, model: Path, dataset: dict[str, Any], **options: Any) -> Any:
    body = {"dataset_id": dataset["dataset_id"], "model_name": str(model), **options}
    return server.post("/api/plans", json=body)


@pytest.mark.parametrize(
    ("rows", "shape", "method"),
    [
        (PAIR, "preference", "dpo"),
        (JUDGED, "unpaired", "kto"),
        (TEXTS, "text", "pretraining"),
        (CLASSES, "classification", "classification"),
    ],
)
def test_the_arrangement_of_the_rows_decides_the_method(
    rows: list[dict[str, Any]], shape: str, method: str, server: TestClient, tiny_model: Path
) -> None:
    dataset = upload(server, rows)
    assert dataset["shape"] == shape
    resolved = plan(server, tiny_model, dataset).json()["resolved"]
    assert resolved["method"]["value"] == resolved["method"]["automatic"] == method
    assert resolved["long_rows"]["value"] == ("split" if method == "pretraining" else "truncate")
    assert resolved["beta"]["value"] == 0.1


def test_preferences_take_a_fortieth_of_the_learning_rate_unless_it_is_given(server: TestClient, tiny_model: Path) -> None:
    dataset = upload(server, PAIR)
    usual = plan(server, tiny_model, dataset, method="sft").json()["resolved"]["learning_rate"]["value"]
    own = plan(server, tiny_model, dataset).json()["resolved"]["learning_rate"]
    assert own["value"] == pytest.approx(usual / 40, rel=0.05) and own["origin"] == "planner"
    assert "fortieth" in own["reason"]
    given = plan(server, tiny_model, dataset, learning_rate=0.01).json()["resolved"]["learning_rate"]
    assert (given["value"], given["origin"], given["automatic"]) == (0.01, "user", own["value"])


def test_a_method_that_cannot_learn_the_rows_is_refused_naming_those_that_can(server: TestClient, tiny_model: Path) -> None:
    error = check_error(plan(server, tiny_model, upload(server, TEXTS), method="dpo"), 422, "invalid")
    assert "dpo" in error["message"] and "pretraining" in error["hint"]
    assert plan(server, tiny_model, upload(server, PAIR), method="sft").json()["resolved"]["method"]["value"] == "sft"


def test_both_answers_of_a_pair_are_shown_and_counted(server: TestClient, tiny_model: Path) -> None:
    dataset = upload(server, PAIR)
    row = server.get(f"/api/datasets/{dataset['dataset_id']}/rows", params={"limit": 1}).json()["rows"][0]
    assert [turns[-1]["content"] for turns in (row["messages"], row["rejected"])] == ["It is 0.", "No idea, go away, please."]
    other = upload(server, [{"prompt": row["prompt"], "completion": row["chosen"]} for row in PAIR])
    longer, shorter = (plan(server, tiny_model, each).json() for each in (dataset, other))
    assert longer["resolved"]["max_length"]["value"] > shorter["resolved"]["max_length"]["value"]
    assert any(reason["code"] == "method_time" for reason in longer["reasons"])


def test_a_plan_has_the_steps_that_the_method_will_take(server: TestClient, tiny_model: Path) -> None:
    """KTO judges both answers of a pair, each an example of its own."""
    dataset = upload(server, PAIR)
    options = {"num_epochs": 1, "batch_size": 2, "gradient_accumulation_steps": 1, "report_rows": 0, "max_length": 128}
    steps = {method: plan(server, tiny_model, dataset, method=method, **options).json()["steps"] for method in ("dpo", "kto")}
    assert steps == {"dpo": 6, "kto": 12}
    body = {"dataset_id": dataset["dataset_id"], "model_name": str(tiny_model), "method": "kto", **options}
    job = server.post("/api/start-finetuning", json=body).json()["job_id"]
    assert wait_for(server, job, "succeeded")["progress"]["step"] == 12


def test_a_finished_adapter_learns_more_rows_and_a_preference(server: TestClient, tiny_model: Path) -> None:
    body = {"model_name": str(tiny_model), "max_length": 128, "num_epochs": 1, "lora_rank": 3, "use_dora": True, "report_rows": 0}
    first = server.post("/api/start-finetuning", json={**body, "dataset_id": dataset_id(server), "learning_rate": 0.01})
    assert first.status_code == 201, first.text
    earlier = wait_for(server, first.json()["job_id"], "succeeded")["job_id"]

    more = {"dataset_id": upload(server, PAIR)["dataset_id"], "model_name": str(tiny_model), "num_epochs": 1, "report_rows": 0}
    refused = server.post("/api/plans", json={**more, "continue_from": earlier, "lora_rank": 4})
    assert "lora_rank" in check_error(refused, 422, "invalid")["message"]
    check_error(server.post("/api/plans", json={**more, "continue_from": "job-none"}), 404, "not_found")

    second = server.post("/api/start-finetuning", json={**more, "continue_from": earlier})
    assert second.status_code == 201, second.text
    assert second.json()["plan"]["resolved"]["lora_rank"] | {"reason": None} == {
        "value": 3, "origin": "preset", "automatic": 3, "reason": None
    }  # fmt: skip
    detail = wait_for(server, second.json()["job_id"], "succeeded")
    assert f"--continue-from {earlier}" in detail["commands"]["cli"]
    assert "--method dpo" in detail["commands"]["cli"]
    unfinished = server.post("/api/start-finetuning", json={**more, "num_epochs": 1000}).json()["job_id"]
    check_error(server.post("/api/plans", json={**more, "continue_from": unfinished}), 409, "conflict")
    server.post(f"/api/jobs/{unfinished}/cancel")
