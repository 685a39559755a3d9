"""New versions: what a fix mends is gone, the rest and the original stay, and nothing is lost on the way out and in."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.contracts.dataset import DatasetInfo, Mapping
from app.core.errors import AffinageError, Invalid
from app.datasets.exporting import ExportShape, export_lines
from app.datasets.findings.analysing import analyse
from app.datasets.importing import import_file, read_rows, remap
from app.datasets.versions import edit_rows, fix, list_canonical
from app.storage.dataset_dir import DatasetDir
from tests.unit.datasets.test_findings import answer, pairs, question


def take_in(folder: Path, text: str, name: str) -> DatasetDir:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, "utf-8")
    target = DatasetDir(folder / f"ds-{name.replace('.', '-')}")
    import_file(folder / name, filename=name, name=None, target=target)
    return target


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def values(folder: DatasetDir) -> list[dict[str, str]]:
    return [view.values for view in read_rows(folder, 0, 1000)]


def test_fixes_make_a_version_that_no_longer_has_the_findings_and_keep_the_original(tmp_path: Path) -> None:
    rows = pairs(60)
    rows += [rows[3], {"question": question(5), "answer": "Somebody else, they say."}]
    rows += [{"question": "Who?", "answer": "anna@example.org"}, {"question": "", "answer": "Nothing was asked."}]
    text = "question,answer\n" + "".join(f'"{row["question"]}","{row["answer"]}"\n' for row in rows) + "ragged\n"
    parent = take_in(tmp_path, text, "rows.csv")
    before = {path.name: path.read_bytes() for path in parent.path.iterdir() if path.is_file()}
    analyse(parent)
    fixes = ["exact_duplicates", "contradictions", "emails", "bad_rows"]
    info = fix(parent, DatasetDir(tmp_path / "v2"), fixes)
    child = DatasetDir(tmp_path / "v2")
    assert [(change.code, change.rows) for change in info.changes] == [
        ("exact_duplicates", 1),
        ("contradictions", 1),
        ("emails", 1),
        ("bad_rows", 2),
        ("unread_rows", 1),
    ]
    assert (info.version, info.parent, info.origin) == (2, parent.dataset_id, parent.dataset_id)
    assert (info.rows, info.problem_count) == (61, 0)
    assert values(child) == [*pairs(60), {"question": "Who?", "answer": "[email]"}]
    assert [finding.code for finding in analyse(child).findings] == ["unusual_lengths"]  # the short row of the address
    assert {path.name: path.read_bytes() for path in parent.path.iterdir() if path.is_file()} == before
    again = fix(parent, DatasetDir(tmp_path / "v2b"), fixes)
    assert again.content_hash == info.content_hash


def test_rows_that_are_not_fixed_keep_every_column_and_their_mapping_can_still_be_changed(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"id": number, "question": question(number), "answer": answer(number)} for number in range(5)]
    rows += [{**rows[0], "id": "again", "tags": ["a", {"b": None}], "huge": 2**80}]
    parent = take_in(tmp_path, lines(rows), "rows.jsonl")
    child = DatasetDir(tmp_path / "v2")
    edit_rows(parent, child, {})
    assert child.source_file("jsonl").read_text() != "" and values(child) == values(parent)
    swapped = remap(child, Mapping(shape="question_answer", instruction="answer", output="question"))
    assert swapped.parent == parent.dataset_id and swapped.rows == 6


def test_rows_are_edited_removed_and_added_in_a_new_version(tmp_path: Path) -> None:
    parent = take_in(tmp_path, "question,answer\na,b\nc,d\ne,\n", "rows.csv")
    child = DatasetDir(tmp_path / "v2")
    info = edit_rows(parent, child, {1: {"answer": "B"}, 2: None, 3: {"answer": "f"}}, [{"question": "g", "answer": "h"}])
    assert values(child) == [
        {"question": "a", "answer": "B"},
        {"question": "e", "answer": "f"},
        {"question": "g", "answer": "h"},
    ]
    assert {change.code: change.rows for change in info.changes} == {"edited_rows": 2, "removed_rows": 1, "added_rows": 1}
    with pytest.raises(Invalid) as refusal:
        edit_rows(parent, DatasetDir(tmp_path / "v3"), {4: None})
    assert refusal.value.key == "invalid.no_row" and not (tmp_path / "v3").exists()


def test_an_edited_list_or_judgement_stays_one_and_a_text_stays_a_text(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    parent = take_in(tmp_path, lines([{"messages": turns, "label": True, "note": "x"}] * 2), "rows.jsonl")
    child = DatasetDir(tmp_path / "v2")
    shown = json.dumps([turns[0], {**turns[1], "content": "c"}])
    edit_rows(parent, child, {1: {"messages": shown, "label": "false", "note": "[1]"}})
    row = json.loads(child.source_file("jsonl").read_text().splitlines()[0])
    assert row == {"messages": json.loads(shown), "label": False, "note": "[1]"}
    edit_rows(child, DatasetDir(tmp_path / "v3"), {1: {"label": "no longer one"}})
    assert values(DatasetDir(tmp_path / "v3"))[0]["label"] == "no longer one"


def test_a_row_that_could_not_be_read_can_be_mended_by_an_edit(tmp_path: Path) -> None:
    parent = take_in(tmp_path, "question,answer\na,b\nragged\nc,d\n", "rows.csv")
    child = DatasetDir(tmp_path / "v2")
    info = edit_rows(parent, child, {2: {"question": "whole", "answer": "again"}})
    assert [each["question"] for each in values(child)] == ["a", "whole", "c"]
    assert [change.code for change in info.changes] == ["edited_rows"]


def test_overlapping_held_out_rows_move_to_training_and_all_others_stay_where_they_are(tmp_path: Path) -> None:
    words = " ".join(f"word{number}" for number in range(60))
    rows = [{**row, "split": "train" if number % 3 else "test"} for number, row in enumerate(pairs(60))]
    rows += [
        {"question": words, "answer": "Yes.", "split": "train"},
        {"question": f"{words} so", "answer": "Yes.", "split": "test"},
    ]
    parent = take_in(tmp_path, lines(rows), "rows.jsonl")
    analyse(parent)
    child = DatasetDir(tmp_path / "v2")
    info = fix(parent, child, ["heldout_overlap"])
    assert (info.rows, info.heldout_rows) == (62, 20)
    assert [each["split"] for each in values(child)] == [row["split"] for row in rows[:-1]] + ["train"]


def test_one_instance_of_a_nested_row_can_be_left_out(tmp_path: Path) -> None:
    same = [
        {"input": "x", "output": "A first answer."},
        {"input": "x", "output": "A first answer."},
        {"input": "y", "output": "B"},
    ]
    parent = take_in(tmp_path, lines([{"instruction": "Do", "instances": same}]), "rows.jsonl")
    analyse(parent)
    child = DatasetDir(tmp_path / "v2")
    assert fix(parent, child, ["exact_duplicates"]).rows == 2
    asked = [example["messages"][0]["content"] for example in list_canonical(child)]
    assert asked == ["Do\n\nx", "Do\n\ny"]


def test_a_finding_that_there_is_not_and_a_fix_that_leaves_nothing_are_refused(tmp_path: Path) -> None:
    parent = take_in(tmp_path, lines(pairs(3)), "rows.jsonl")
    analyse(parent)
    with pytest.raises(Invalid) as refusal:
        fix(parent, DatasetDir(tmp_path / "v2"), ["emails"])
    assert refusal.value.key == "invalid.no_finding"
    with pytest.raises(AffinageError) as nothing:
        edit_rows(parent, DatasetDir(tmp_path / "v2"), dict.fromkeys((1, 2, 3)))
    assert nothing.value.key == "dataset_invalid.no_rows" and not (tmp_path / "v2").exists()


SYSTEM = {"role": "system", "content": "Be brief."}
TURNS = [{"role": "user", "content": "Où ?"}, {"role": "assistant", "content": "  Là :\n    ici"}]
TOOL = [{"role": "tool", "content": "42"}, {"role": "assistant", "content": "It is 42.", "weight": 0}]
MANY: list[tuple[list[Any], list[ExportShape]]] = [
    ([{"question": "a", "answer": "b"}], ["messages", "sharegpt", "alpaca", "prompt_completion", "question_answer"]),
    ([{"messages": [SYSTEM, *TURNS[:1], {"role": "assistant", "content": "Là."}]}], ["messages", "sharegpt", "alpaca"]),
    ([{"messages": [SYSTEM, *TURNS, *TURNS]}], ["messages", "sharegpt"]),
    ([{"messages": [*TURNS, *TOOL]}], ["messages", "sharegpt"]),
    ([{"text": " as it is \n"}], ["text"]),
    ([{"prompt": "a", "chosen": "b", "rejected": "c"}], ["preference"]),
    ([{"prompt": "a", "completion": "b", "label": True}, {"prompt": "a", "completion": "c", "label": False}], ["unpaired"]),
]


@pytest.mark.parametrize(("rows", "shapes"), MANY)
def test_every_fitting_shape_holds_the_rows_whole(tmp_path: Path, rows: list[Any], shapes: list[ExportShape]) -> None:
    parent = take_in(tmp_path, lines(rows * 2), "rows.jsonl")
    for shape in shapes:
        again = take_in(tmp_path / shape, b"".join(export_lines(parent, shape)).decode(), "again.jsonl")
        assert list(list_canonical(again)) == list(list_canonical(parent))


def test_a_shape_that_would_lose_something_is_refused_with_those_that_fit(tmp_path: Path) -> None:
    parent = take_in(tmp_path, lines([{"messages": [*TURNS, *TOOL]}]), "rows.jsonl")
    with pytest.raises(Invalid) as refusal:
        export_lines(parent, "alpaca").__next__()
    assert refusal.value.key == "invalid.shape_loses" and refusal.value.params["fitting"] == "messages, sharegpt"


@pytest.mark.parametrize("shape", ["alpaca", "prompt_completion", "question_answer"])
def test_what_only_a_late_row_has_survives_an_export_and_its_import(tmp_path: Path, shape: ExportShape) -> None:
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    rows = [{"messages": talk}] * 1200 + [{"messages": [{"role": "system", "content": "Be kind."}, *talk, *talk]}]
    parent = take_in(tmp_path, lines(rows), "rows.jsonl")
    exported = list(export_lines(parent, shape))
    assert {"system", "history"} <= json.loads(exported[0]).keys()
    again = take_in(tmp_path / "again", b"".join(exported).decode(), "rows.jsonl")
    assert [example.get("messages") for example in list_canonical(again)] == [row["messages"] for row in rows]


def test_an_exported_split_is_the_same_after_an_import(tmp_path: Path) -> None:
    parent = take_in(tmp_path, lines(pairs(80)), "rows.jsonl")
    again = take_in(tmp_path / "again", b"".join(export_lines(parent, "alpaca")).decode(), "rows.jsonl")
    before: DatasetInfo = parent.read_info()
    assert (again.read_info().train_rows, again.read_info().heldout_rows) == (before.train_rows, before.heldout_rows) == (60, 20)
    assert again.heldout_file.read_bytes() == parent.heldout_file.read_bytes()


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(lambda text: text.strip())
CONVERSATION = st.lists(st.tuples(TEXT, TEXT, st.sampled_from([None, 1])), min_size=1, max_size=3)


@settings(max_examples=40, deadline=None)
@given(conversations=st.lists(CONVERSATION, min_size=1, max_size=5), shape=st.sampled_from(["messages", "sharegpt"]))
def test_any_conversation_survives_its_way_out_and_in(
    tmp_path_factory: pytest.TempPathFactory, conversations: list[list[tuple[str, str, int | None]]], shape: ExportShape
) -> None:
    rows = []
    for conversation in conversations:
        turns: list[dict[str, Any]] = []
        for asked, answered, weight in conversation:
            turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered, "weight": weight}]
        rows.append({"messages": turns})
    folder = tmp_path_factory.mktemp("trip")
    parent = take_in(folder, lines(rows), "rows.jsonl")
    again = take_in(folder / "again", b"".join(export_lines(parent, shape)).decode(), "rows.jsonl")
    assert list(list_canonical(again)) == list(list_canonical(parent))
