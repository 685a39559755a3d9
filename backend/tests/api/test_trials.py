"""The original model answers rows before a training: real worker, tiny model."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.core.settings import Settings
from app.main import create_app
from tests.api.conftest import ADDRESS, check_error, dataset_id, upload


@pytest.fixture(scope="module")
def client(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("trials") / "data", model_roots=str(tiny_model.parent), inference_idle_seconds=60.0
    )
    with TestClient(create_app(settings), base_url=ADDRESS) as made:
        yield made


def steps(client: TestClient, dataset: str, **body: Any) -> list[dict[str, Any]]:
    with client.stream("POST", f"/api/datasets/{dataset}/trial", json=body) as stream:
        assert stream.status_code == 200, stream.read()
        return [json.loads(line.removeprefix("data: ")) for line in stream.iter_lines() if line.startswith("data: ")]


def test_rows_are_told_one_by_one_and_the_summary_comes_last(client: TestClient, tiny_model: Path) -> None:
    told = steps(client, dataset_id(client), model_name=str(tiny_model), rows=3)
    rows = [step["row"] for step in told if step["row"]]
    assert [step["done"] for step in told if step["row"]] == [1, 2, 3] and told[-1]["total"] == 3
    assert all(row["expected"].startswith("The code of box") and row["question"] for row in rows)
    summary = told[-1]["summary"]
    assert summary["rows"] == 3 and summary["heldout"] and len(summary["example_rows"]) == 4
    assert summary["right_base"] == 0, "a model of random weights answers nothing"
    assert summary["overlap_prompted"] == pytest.approx(sum(row["overlap_prompted"] for row in rows) / 3)
    assert not {row["row"] for row in rows} & set(summary["example_rows"])


def test_a_small_data_set_is_tried_on_training_rows_that_are_no_examples(client: TestClient, tiny_model: Path) -> None:
    small = upload(client, "question,answer\n" + "".join(f"q{n}?,a{n}\n" for n in range(8))).json()["dataset_id"]
    summary = steps(client, small, model_name=str(tiny_model), rows=50)[-1]["summary"]
    assert not summary["heldout"] and summary["rows"] == 4


def test_what_cannot_be_tried_is_refused_before_the_stream(client: TestClient, tiny_model: Path) -> None:
    texts = upload(client, "text\n" + "".join(f"line number {n} of a text\n" for n in range(60))).json()["dataset_id"]
    check_error(client.post(f"/api/datasets/{texts}/trial", json={"model_name": str(tiny_model)}), 409, "conflict")
    check_error(client.post("/api/datasets/unknown/trial", json={"model_name": str(tiny_model)}), 404, "not_found")
    check_error(client.post(f"/api/datasets/{texts}/trial", json={"model_name": "nobody-knows-it"}), 404, "not_found")
    check_error(client.post(f"/api/datasets/{texts}/trial", json={"model_name": "x", "rows": 0}), 422, "invalid")
