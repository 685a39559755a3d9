"""Preference data, judged answers and labelled texts: recognised, imported, kept apart."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.contracts.dataset import Example, Mapping
from app.datasets.detecting import detect_mapping
from app.datasets.examples import make_examples
from app.datasets.importing import import_file
from app.datasets.rows import RawRow
from app.storage.dataset_dir import DatasetDir


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def written(turns: list[Any] | None) -> list[tuple[str, str]] | None:
    return None if turns is None else [(each.role, each.content) for each in turns]


def read(row: dict[str, Any]) -> tuple[Mapping, Example]:
    mapping = detect_mapping(list(row), [RawRow(1, row)]).mapping
    examples, problems = make_examples(RawRow(1, row), mapping)
    assert len(examples) == 1, problems
    return mapping, Example.model_validate(examples[0])


ASKED = [("user", "Q")]
PAIRS = [
    {"prompt": "Q", "chosen": "good", "rejected": "bad"},
    {"question": "Q", "chosen": "good", "rejected": "bad", "id": 7},
    {"chosen": [turn("user", "Q"), turn("assistant", "good")], "rejected": [turn("user", "Q"), turn("assistant", "bad")]},
    {"prompt": [turn("user", "Q")], "chosen": [turn("assistant", "good")], "rejected": [turn("assistant", "bad")]},
    {
        "prompt": "Q",
        "chosen": [turn("user", "Q"), turn("assistant", "good")],
        "rejected": [turn("user", "Q"), turn("assistant", "bad")],
    },
    {
        "conversations": [{"from": "human", "value": "Q"}],
        "chosen": {"from": "gpt", "value": "good"},
        "rejected": {"from": "gpt", "value": "bad"},
    },
    {"prompt": "Q", "chosen": json.dumps([turn("assistant", "good")]), "rejected": json.dumps([turn("assistant", "bad")])},
]  # fmt: skip


@pytest.mark.parametrize("row", PAIRS)
def test_pairs_are_recognised_in_every_spelling_of_the_field(row: dict[str, Any]) -> None:
    mapping, example = read(row)
    assert (mapping.shape, mapping.output, mapping.rejected) == ("preference", "chosen", "rejected")
    assert written(example.messages) == [*ASKED, ("assistant", "good")]
    assert written(example.rejected) == [*ASKED, ("assistant", "bad")]


def test_the_instruction_of_a_pair_keeps_its_input_and_its_system_text() -> None:
    _, example = read({"system": "S", "instruction": "I", "input": "X", "chosen": "a", "rejected": "b"})
    assert written(example.messages) == [("system", "S"), ("user", "I\n\nX"), ("assistant", "a")]
    assert written(example.rejected) == [("system", "S"), ("user", "I\n\nX"), ("assistant", "b")]


@pytest.mark.parametrize(("label", "good"), [(True, True), ("false", False), (0, False), ("1", True), ("oui", True)])
def test_judged_answers_are_recognised(label: object, good: bool) -> None:
    mapping, example = read({"prompt": "Q", "completion": "A", "label": label})
    assert (mapping.shape, mapping.label) == ("unpaired", "label")
    assert example.desirable is good and written(example.messages) == [("user", "Q"), ("assistant", "A")]
    mapping, example = read({"messages": [turn("user", "Q"), turn("assistant", "A"), turn("user", "?")], "kto_tag": label})
    assert mapping.shape == "unpaired" and example.desirable is good
    assert written(example.messages) == [("user", "Q"), ("assistant", "A")]


def test_answers_with_another_kind_of_label_are_ordinary_answers() -> None:
    assert read({"prompt": "Q", "completion": "A", "label": "geography"})[0].shape == "prompt_completion"


def test_labelled_texts_become_conversations_with_the_class_as_the_answer() -> None:
    mapping, example = read({"text": "What a film!", "label": "positive"})
    assert (mapping.shape, mapping.instruction, mapping.label) == ("classification", "text", "label")
    assert written(example.messages) == [("user", "What a film!"), ("assistant", "positive")]
    assert read({"review": "Bof.", "sentiment": 0})[1].messages[1].content == "0"  # type: ignore[index]


def test_texts_whose_labels_are_long_or_all_different_stay_texts() -> None:
    rows = [RawRow(number, {"text": "a", "label": f"{number}"}) for number in range(20)]
    assert detect_mapping(["text", "label"], rows).mapping.shape == "text"
    assert detect_mapping(["text", "label"], [RawRow(1, {"text": "a", "label": "x" * 61})]).mapping.shape == "text"


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ({"prompt": "Q", "chosen": "same", "rejected": " same "}, "same_answers"),
        ({"prompt": "Q", "chosen": "a", "rejected": ""}, "empty_answer"),
        ({"prompt": "", "chosen": "a", "rejected": "b"}, "empty_prompt"),
        ({"chosen": [turn("user", "Q")], "rejected": [turn("assistant", "b")]}, "no_assistant_turn"),
    ],
)
def test_pairs_that_teach_nothing_are_named(row: dict[str, Any], key: str) -> None:
    mapping = detect_mapping(["prompt", "chosen", "rejected"], [RawRow(1, row)]).mapping
    examples, problems = make_examples(RawRow(3, row), mapping)
    assert examples == [] and [(problem.row, problem.key) for problem in problems] == [(3, key)]


def test_an_answer_judged_both_ways_counts_as_two_rows_and_one_prompt_stays_on_one_side(tmp_path: Path) -> None:
    file = tmp_path / "judged.jsonl"
    rows = [{"prompt": f"Q{i}", "completion": "A", "label": label} for i in range(100) for label in (True, False)]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    target = DatasetDir(tmp_path / "ds")
    info = import_file(file, filename=file.name, name=None, target=target)
    assert (info.mapping.shape, info.rows, info.distinct_rows, info.heldout_rows) == ("unpaired", 200, 200, 20)
    held = {example.messages[0].content for example in target.read_examples(target.heldout_file)}  # type: ignore[index]
    assert len(held) == 10
    assert held.isdisjoint(example.messages[0].content for example in target.read_examples(target.train_file))  # type: ignore[index]
