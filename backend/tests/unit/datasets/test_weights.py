"""Weights of single answers: read under every name of the field, refused where they are no yes or no."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.datasets.importing import import_file
from app.storage.dataset_dir import DatasetDir


def conversation(*marks: dict[str, Any]) -> dict[str, Any]:
    turns: list[dict[str, Any]] = []
    for number, mark in enumerate(marks):
        turns += [{"role": "user", "content": f"Q{number}"}, {"role": "assistant", "content": f"A{number}", **mark}]
    return {"messages": turns}


def weights(tmp_path: Path, rows: list[dict[str, Any]]) -> tuple[list[list[int | None]], list[tuple[int, str]]]:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    target = DatasetDir(tmp_path / "ds")
    info = import_file(file, filename=file.name, name=None, target=target)
    found = [[turn.weight for turn in example.messages or [] if turn.role == "assistant"] for example in target.read_examples()]
    return found, [(problem.row, problem.key) for problem in info.problems]


@pytest.mark.parametrize("name", ["weight", "train", "training", "loss"])
def test_the_weight_of_an_answer_is_read_under_every_name_of_the_field(tmp_path: Path, name: str) -> None:
    rows = [conversation({name: 0}, {name: 1}), conversation({name: False}, {name: True}), conversation({}, {name: None})]
    assert weights(tmp_path, rows) == ([[0, 1], [0, 1], [None, None]], [])


def test_weights_that_are_no_yes_or_no_and_rows_without_a_trained_answer_are_problems(tmp_path: Path) -> None:
    rows = [conversation({"weight": 0.5}), conversation({"weight": 0}, {"weight": 0}), conversation({"weight": 1})]
    assert weights(tmp_path, rows) == ([[1]], [(1, "bad_weight"), (2, "no_weighted_turn")])
