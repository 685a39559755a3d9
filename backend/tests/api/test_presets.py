"""Presets by type of task: proposed with reasons, from the rows and the model; they change nothing by themselves."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.contracts.options import FinetuningOptions
from app.services.preset_service import count_epochs
from tests.api.conftest import FRENCH, check_error, upload

MODEL = "gpt2"
PAIRS = [{"prompt": f"q{n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(60)]
CLASSES = "text,label\n" + "".join(f"A text about matter number {n} here,{('joy', 'fear')[n % 2]}\n" for n in range(60))


def presets(client: TestClient, found: str, **headers: str) -> dict[str, Any]:
    answer = client.get("/api/presets", params={"dataset_id": found, "model": MODEL}, headers=headers)
    assert answer.status_code == 200, answer.text
    return {preset["task"]: preset for preset in answer.json()["presets"]}


@pytest.mark.parametrize(
    ("content", "name", "usual", "method", "rate"),
    [
        ("question,answer\n" + "".join(f"What is {n}?,It is {n}.\n" for n in range(60)), "a.csv", "instruction", "sft", 3e-4),
        (json.dumps(PAIRS), "a.json", "preference", "dpo", 7.5e-6),
        (CLASSES, "a.csv", "classification", "classification", 3e-4),
    ],
)
def test_the_usual_task_follows_from_the_rows_and_its_values_can_be_started_with(
    client: TestClient, content: str, name: str, usual: str, method: str, rate: float
) -> None:
    found = upload(client, content, name).json()["dataset_id"]
    offered = presets(client, found)
    assert [task for task, preset in offered.items() if preset["usual"]] == [usual]
    values = offered[usual]["values"]
    assert (values["method"], values["learning_rate"]) == (method, pytest.approx(rate))
    FinetuningOptions(**values)
    plan = client.post("/api/plans", json={"dataset_id": found, "model_name": MODEL, **values}).json()
    assert {name: plan["resolved"][name]["value"] for name in values} == values
    assert len(offered[usual]["reasons"]) == 4


def test_what_does_not_suit_the_rows_says_why_and_proposes_nothing(client: TestClient) -> None:
    found = upload(client).json()["dataset_id"]
    unfit = presets(client, found, **FRENCH)["preference"]
    assert (unfit["suits"], unfit["values"], unfit["name"]) == (False, {}, "Préférences")
    assert "paires" in unfit["reasons"][0]


def test_more_rows_want_fewer_passes() -> None:
    for method in ("sft", "pretraining", "classification", "dpo", "kto"):
        passes = [count_epochs(method, rows) for rows in (50, 5_000, 50_000, 500_000)]  # type: ignore[arg-type]
        assert passes == sorted(passes, reverse=True) and passes[0] > passes[-1] >= 1


def test_an_unknown_data_set_is_named(client: TestClient) -> None:
    check_error(client.get("/api/presets", params={"dataset_id": "ds-none", "model": MODEL}), 404, "not_found")
