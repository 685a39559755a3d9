"""Which column plays which part."""

from typing import Any

import pytest

from app.contracts.dataset import Mapping
from app.core.errors import DatasetInvalid
from app.datasets.detecting import check_mapping, detect_mapping
from app.datasets.rows import RawRow


def detect(*rows: dict[str, Any]) -> Mapping:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return detect_mapping(columns, [RawRow(number, row) for number, row in enumerate(rows, 1)]).mapping


def parts(mapping: Mapping) -> dict[str, str]:
    return mapping.model_dump(exclude_none=True)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            ["instruction", "input", "output"],
            {"shape": "alpaca", "instruction": "instruction", "input": "input", "output": "output"},
        ),
        (["Instruction", "Response"], {"shape": "alpaca", "instruction": "Instruction", "output": "Response"}),
        (
            ["Consigne", "Contexte", "Réponse"],
            {"shape": "alpaca", "instruction": "Consigne", "input": "Contexte", "output": "Réponse"},
        ),
        (["prompt", "completion"], {"shape": "prompt_completion", "instruction": "prompt", "output": "completion"}),
        (["id", "query", "response"], {"shape": "prompt_completion", "instruction": "query", "output": "response"}),
        (["input", "output"], {"shape": "prompt_completion", "instruction": "input", "output": "output"}),
        (
            ["user", "assistant", "System Prompt"],
            {"shape": "prompt_completion", "instruction": "user", "output": "assistant", "system": "System Prompt"},
        ),
        (["QUESTION", "ANSWER"], {"shape": "question_answer", "instruction": "QUESTION", "output": "ANSWER"}),
        (["Question", "Réponse"], {"shape": "question_answer", "instruction": "Question", "output": "Réponse"}),
        (["question", "réponse"], {"shape": "question_answer", "instruction": "question", "output": "réponse"}),
        (
            ["context", "question", "answers"],
            {"shape": "question_answer", "instruction": "question", "input": "context", "output": "answers"},
        ),
        (["q", "a"], {"shape": "question_answer", "instruction": "q", "output": "a"}),
        (
            ["query", "response", "history"],
            {"shape": "prompt_completion", "instruction": "query", "output": "response", "history": "history"},
        ),
        (["instruction", "output", "text"], {"shape": "alpaca", "instruction": "instruction", "output": "output"}),
        (["id", "Texte"], {"shape": "text", "text": "Texte"}),
        (["text"], {"shape": "text", "text": "text"}),
    ],
)
def test_columns_are_recognised_by_their_names(columns: list[str], expected: dict[str, str]) -> None:
    assert parts(detect(dict.fromkeys(columns, "x"))) == expected


@pytest.mark.parametrize(
    ("column", "value", "shape"),
    [
        ("messages", [{"role": "user", "content": "a"}], "messages"),
        ("conversations", [{"role": "user", "content": "a"}], "messages"),
        ("conversations", [{"from": "human", "value": "a"}], "sharegpt"),
        ("Conversation", [{"human": "a", "assistant": "b"}], "sharegpt"),
        ("messages", '[{"role": "user", "content": "a"}]', "messages"),
    ],
)
def test_conversations_are_recognised_by_their_turns(column: str, value: object, shape: str) -> None:
    assert parts(detect({column: None, "id": 0}, {column: value, "id": 1})) == {"shape": shape, "messages": column}


@pytest.mark.parametrize(
    ("row", "key", "named"),
    [
        ({"label": "x", "sentence1": "y"}, "no_shape", "label, sentence1"),
        ({"question_id": 1, "turns": ["a", "b"]}, "no_answers", "question_id, turns"),
        ({"instruction": "x", "instances": []}, "no_answers", "instruction, instances"),
        ({"prompt": 17, "output": 18, "id": 3}, "no_shape", "prompt, output, id"),
        ({"comments": "x"}, "one_column", "comments"),
        ({"messages": [{"role": "user", "content": "x"}], "images": ["a.png"]}, "media_data", "images"),
        ({"Call me Ishmael. Some years ago - never mind how long precisely - having little money": "x"}, "running_text", ""),
    ],
)
def test_other_tables_are_refused_naming_their_columns(row: dict[str, Any], key: str, named: str) -> None:
    with pytest.raises(DatasetInvalid) as caught:
        detect(row)
    assert caught.value.key == f"dataset_invalid.{key}"
    assert named in caught.value.message and named in caught.value.text("fr")[0]
    if key == "no_shape":
        assert "question + answer" in caught.value.hint


def test_an_empty_media_column_does_not_matter() -> None:
    assert detect({"question": "a", "answer": "b", "images": []}).shape == "question_answer"


def test_a_mapping_by_hand_must_name_columns_of_the_file_and_every_part_it_needs() -> None:
    check_mapping(Mapping(shape="question_answer", instruction="Avis", output="Suite"), ["Avis", "Suite"])
    with pytest.raises(DatasetInvalid, match="no column “Avi” in this file; it has Avis, Suite"):
        check_mapping(Mapping(shape="question_answer", instruction="Avi", output="Suite"), ["Avis", "Suite"])
    for mapping in (Mapping(shape="alpaca", instruction="a"), Mapping(shape="messages"), Mapping(shape="text", output="a")):
        with pytest.raises(DatasetInvalid) as caught:
            check_mapping(mapping, ["a"])
        assert caught.value.key == "dataset_invalid.mapping_incomplete"
