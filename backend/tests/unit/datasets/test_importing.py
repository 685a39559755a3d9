"""From a file to a data set on disk: rows, problems, split, and nothing half-made."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.contracts.dataset import DatasetInfo, Example, Mapping, Message
from app.core.errors import AffinageError, DatasetInvalid
from app.core.messages import catalogue, localise
from app.datasets.importing import import_file, read_rows, remap
from app.datasets.writing_rows import MAX_PROBLEMS
from app.storage.dataset_dir import DatasetDir, clean_up, list_datasets


def write(folder: Path, rows: list[Any] | str, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    text = rows if isinstance(rows, str) else "\n".join(json.dumps(row) for row in rows)
    path.write_text(text, "utf-8")
    return path


def take_in(tmp_path: Path, rows: list[Any] | str, name: str = "rows.jsonl", **options: Any) -> tuple[DatasetDir, DatasetInfo]:
    source = write(tmp_path / "given", rows, name)
    target = DatasetDir(tmp_path / "datasets" / "ds-1")
    return target, import_file(source, filename=name, name=options.pop("title", None), target=target, **options)


def turns(example: Example | None) -> list[tuple[str, str]]:
    assert example is not None and example.messages is not None
    return [(message.role, message.content) for message in example.messages]


def pairs(count: int, *, repeat: int = 1) -> list[dict[str, str]]:
    return [{"question": f"Question {n}?", "answer": f"Answer {n}."} for n in range(count) for _ in range(repeat)]


def test_an_imported_file_is_kept_unchanged_beside_its_rows(tmp_path: Path) -> None:
    text = "Question;Réponse\nOù ?;Là.\nQuand ?;Demain.\n"
    target, info = take_in(tmp_path, text, "Mes réponses.csv")
    assert target.source_file("csv").read_text("utf-8") == text
    assert info == target.read_info()
    assert (info.dataset_id, info.name, info.format, info.delimiter) == ("ds-1", "Mes réponses", "csv", ";")
    assert (info.rows, info.rows_in_file, info.distinct_rows, info.skipped_rows) == (2, 2, 2, 0)
    assert info.content_hash == hashlib.sha256(target.rows_file.read_bytes()).hexdigest()
    assert info.source_bytes == len(text.encode())
    assert info.characters == len("Où ?Là.Quand ?Demain.")
    assert (len(info.row_characters), info.row_characters[0], info.row_characters[-1]) == (21, 7, 14)
    assert list(target.read_examples())[1] == Example(
        row=2, messages=[Message(role="user", content="Quand ?"), Message(role="assistant", content="Demain.")]
    )
    assert b"null" not in target.rows_file.read_bytes()


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            {"instruction": "Say.", "input": " in ", "output": "out", "system": "S"},
            [("system", "S"), ("user", "Say.\n\nin"), ("assistant", "out")],
        ),
        ({"instruction": "Say.", "input": "", "output": 3.5}, [("user", "Say."), ("assistant", "3.5")]),
        ({"prompt": "a\r\nb", "completion": " c\n"}, [("user", "a\nb"), ("assistant", "c")]),
        ({"prompt": "code", "completion": "\n    if x:\n        y\n"}, [("user", "code"), ("assistant", "    if x:\n        y")]),
        (
            {"query": "c", "response": "d", "history": [["a", "b"]]},
            [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")],
        ),
        (
            {
                "messages": [
                    {"role": "System", "content": ""},
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "content": "b"},
                ]
            },
            [("user", "a"), ("assistant", "b")],
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}, {"role": "assistant", "content": "b"}]},
            [("user", "a"), ("assistant", "b")],
        ),
        (
            {
                "system": "S",
                "conversations": [
                    {"from": "human", "value": "a"},
                    {"from": "gpt", "value": "b"},
                    {"from": "observation", "value": "c"},
                    {"from": "gpt", "value": "d"},
                ],
            },
            [("system", "S"), ("user", "a"), ("assistant", "b"), ("tool", "c"), ("assistant", "d")],
        ),
        ({"conversation": [{"human": "a", "assistant": "b"}]}, [("user", "a"), ("assistant", "b")]),
    ],
)
def test_every_shape_becomes_a_conversation(tmp_path: Path, row: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    target, _ = take_in(tmp_path, [row])
    assert turns(next(target.read_examples())) == expected


def test_a_text_row_is_kept_as_written(tmp_path: Path) -> None:
    target, info = take_in(tmp_path, [{"text": "  def f():\n    pass\n"}])
    assert info.mapping.shape == "text"
    assert next(target.read_examples()) == Example(row=1, text="  def f():\n    pass\n")


def test_a_conversation_in_a_csv_cell_is_read_as_json(tmp_path: Path) -> None:
    cell = json.dumps([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]).replace('"', '""')
    _, info = take_in(tmp_path, f'messages\n"{cell}"\n"[broken"\n', "a.csv")
    assert info.mapping.shape == "messages" and info.rows == 1
    assert [(problem.row, problem.key) for problem in info.problems] == [(2, "wrong_type")]


GOOD_TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


@pytest.mark.parametrize(
    ("good", "bad", "column", "key"),
    [
        (pairs(1)[0], {"question": "a", "answer": "  "}, "answer", "empty_answer"),
        (pairs(1)[0], {"question": "a"}, "answer", "empty_answer"),
        (pairs(1)[0], {"question": None, "answer": "b"}, "question", "empty_prompt"),
        (pairs(1)[0], {"question": "a", "answer": ["b"]}, "answer", "wrong_type"),
        (pairs(1)[0], {"question": "a", "answer": True}, "answer", "wrong_type"),
        (pairs(1)[0], {"question": "a\ud83d", "answer": "b"}, "question", "bad_character"),
        (pairs(1)[0], ["a", "b"], None, "not_an_object"),
        ({"q": "a", "a": "b", "history": []}, {"q": "a", "a": "b", "history": [["x"]]}, "history", "bad_history"),
        ({"text": "a"}, {"text": " \n"}, "text", "empty_text"),
        ({"messages": GOOD_TURNS}, {"messages": []}, "messages", "empty_conversation"),
        ({"messages": GOOD_TURNS}, {"messages": GOOD_TURNS[:1]}, "messages", "no_assistant_turn"),
        ({"messages": GOOD_TURNS}, {"messages": [*GOOD_TURNS, {"role": "narrator", "content": "x"}]}, "messages", "unknown_role"),
        ({"messages": GOOD_TURNS}, {"messages": [{"role": "user", "content": " "}, GOOD_TURNS[1]]}, "messages", "empty_turn"),
        ({"messages": GOOD_TURNS}, {"messages": ["a", "b"]}, "messages", "bad_turn"),
        ({"messages": GOOD_TURNS}, {"messages": 3}, "messages", "wrong_type"),
        (
            {"messages": GOOD_TURNS},
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages",
            "not_text_part",
        ),
        (
            {"messages": GOOD_TURNS},
            {"messages": [{"role": "assistant", "content": None, "tool_calls": [{}]}]},
            "messages",
            "tool_calls",
        ),
    ],
)
def test_a_bad_row_is_skipped_counted_and_named(tmp_path: Path, good: Any, bad: Any, column: str | None, key: str) -> None:
    target, info = take_in(tmp_path, [good, bad, good])
    assert (info.rows, info.rows_in_file, info.skipped_rows, info.problem_count) == (2, 3, 1, 1)
    problem = info.problems[0]
    assert (problem.row, problem.column, problem.key) == (2, column, key)
    for language in ("en", "fr"):
        message, hint = localise(problem.key, language, **problem.params)
        assert message and hint and "{" not in message
    assert [example.row for example in target.read_examples()] == [1, 3]


def test_a_file_without_a_usable_row_is_refused_with_the_places(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid) as caught:
        take_in(tmp_path, [{"question": f"q{n}", "answer": ""} for n in range(30)])
    assert caught.value.key == "dataset_invalid.no_usable_rows" and caught.value.params["rows"] == 30
    assert len(caught.value.details) == 20
    assert caught.value.details[0] == {"row": 1, "column": "answer", "code": "empty_answer", "message": "The answer is empty."}


@pytest.mark.parametrize(
    ("text", "name", "key"),
    [
        ("question,answer\n", "a.csv", "header_only"),
        ("[]", "a.json", "no_rows"),
        ("[1, 2]", "a.json", "no_usable_rows"),
        ("[{}, {}]", "a.json", "no_usable_rows"),
        ('[{"question": "a", "answer": "b"}, {"question": ]', "a.json", "json"),
    ],
)
def test_a_refused_file_leaves_nothing_behind(tmp_path: Path, text: str, name: str, key: str) -> None:
    with pytest.raises(AffinageError) as caught:
        take_in(tmp_path, text, name)
    assert caught.value.key == f"dataset_invalid.{key}"
    assert list((tmp_path / "datasets").iterdir()) == []


def test_problems_beyond_the_limit_are_counted(tmp_path: Path) -> None:
    rows = [*pairs(1), *({"question": "", "answer": "x"} for _ in range(MAX_PROBLEMS + 5))]
    _, info = take_in(tmp_path, rows)
    assert (len(info.problems), info.problem_count, info.skipped_rows) == (MAX_PROBLEMS, MAX_PROBLEMS + 5, MAX_PROBLEMS + 5)


def test_every_sentence_exists_in_both_languages_with_the_same_parameters() -> None:
    assert catalogue("en").keys() == catalogue("fr").keys()


# --- mapping by hand, rows for the page --------------------------------------------------------------------------------


def test_a_table_of_unknown_columns_is_imported_with_a_mapping_by_hand(tmp_path: Path) -> None:
    text = "Betreff,Antwort\nFrage,Ja\n"
    with pytest.raises(DatasetInvalid, match="Betreff, Antwort"):
        take_in(tmp_path, text, "a.csv")
    mapping = Mapping(shape="question_answer", instruction="Betreff", output="Antwort")
    target, info = take_in(tmp_path, text, "a.csv", mapping=mapping)
    assert info.mapping == mapping
    assert turns(next(target.read_examples())) == [("user", "Frage"), ("assistant", "Ja")]


def test_another_mapping_reads_the_same_file_again(tmp_path: Path) -> None:
    target, before = take_in(tmp_path, pairs(60), title="Fragen")
    after = remap(target, Mapping(shape="question_answer", instruction="answer", output="question"))
    assert turns(next(target.read_examples())) == [("user", "Answer 0."), ("assistant", "Question 0?")]
    assert after == target.read_info()
    assert (after.name, after.created_at, after.rows) == ("Fragen", before.created_at, 60)
    assert after.content_hash != before.content_hash


def test_a_refused_mapping_leaves_the_data_set_as_it_was(tmp_path: Path) -> None:
    target, before = take_in(tmp_path, [{"question": "a", "answer": "b", "note": ""}])
    for mapping, key in (
        (Mapping(shape="text", text="note"), "no_usable_rows"),
        (Mapping(shape="text", text="nothing"), "mapping_column"),
    ):
        with pytest.raises(DatasetInvalid) as caught:
            remap(target, mapping)
        assert caught.value.key == f"dataset_invalid.{key}"
        assert target.read_info() == before
        assert turns(next(target.read_examples())) == [("user", "a"), ("assistant", "b")]
    assert [path.name for path in target.path.parent.iterdir()] == ["ds-1"]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv"])
def test_rows_are_shown_as_in_the_file_and_as_examples(tmp_path: Path, name: str) -> None:
    rows = [{"question": "a", "answer": "b"}, {"question": "c", "answer": ""}, {"question": "e", "answer": "f"}]
    text = {
        "rows.jsonl": "\n".join(map(json.dumps, rows)),
        "rows.json": json.dumps(rows, indent=1),
        "rows.csv": "question,answer\na,b\nc,\ne,f\n",
    }[name]
    target, _ = take_in(tmp_path, text, name)
    views = read_rows(target, 1, 5)
    assert [(view.row, view.values) for view in views] == list(enumerate(rows[1:], 2))
    assert views[0].example is None and [problem.key for problem in views[0].problems] == ["empty_answer"]
    assert turns(views[1].example) == [("user", "e"), ("assistant", "f")] and not views[1].problems
    assert read_rows(target, 3, 5) == []


def test_values_that_are_no_text_are_shown_as_json(tmp_path: Path) -> None:
    target, _ = take_in(tmp_path, [{"question": "a", "answer": "b", "tags": ["é", 1], "note": None}])
    assert read_rows(target, 0, 1)[0].values == {"question": "a", "answer": "b", "tags": '["é", 1]', "note": ""}


# --- split -------------------------------------------------------------------------------------------------------------


def split(target: DatasetDir) -> tuple[list[Example], list[Example]]:
    return list(target.read_examples(target.train_file)), list(target.read_examples(target.heldout_file))


@pytest.mark.parametrize(("count", "heldout"), [(1, 0), (49, 0), (50, 20), (200, 20), (500, 50)])
def test_ten_percent_and_at_least_twenty_rows_are_held_out_from_fifty_distinct_rows_on(
    tmp_path: Path, count: int, heldout: int
) -> None:
    target, info = take_in(tmp_path, pairs(count))
    train, held = split(target)
    assert (info.train_rows, info.heldout_rows) == (len(train), len(held)) == (count - heldout, heldout)
    assert sorted([*train, *held], key=lambda example: example.row) == list(target.read_examples())


def test_headers_repeated_between_the_rows_are_counted_in_the_report_also_after_another_mapping(tmp_path: Path) -> None:
    text = "question,answer\nA?,1.\nquestion,answer\nB?,2.\nquestion,answer\n"
    target, info = take_in(tmp_path, text, "rows.csv")
    assert (info.rows_in_file, info.rows, info.problem_count) == (2, 2, 0)
    assert [(remark.key, remark.params) for remark in info.remarks] == [("repeated_headers", {"count": 2})]
    assert "2" in localise(info.remarks[0].key, "fr", **info.remarks[0].params)[0]
    assert remap(target, info.mapping).remarks == info.remarks
    assert take_in(tmp_path / "other", "question,answer\nA?,1.\n", "rows.csv")[1].remarks == []


@pytest.mark.parametrize(
    ("tools", "named"), [([{"name": "clock"}], ["tools_unread"]), ('[{"name": "clock"}]', ["tools_unread"]), ([], []), ("[]", [])]
)
def test_descriptions_of_tools_are_not_passed_over_in_silence(tmp_path: Path, tools: object, named: list[str]) -> None:
    turns = [{"role": "user", "content": "What time is it?"}, {"role": "assistant", "content": "Noon."}]
    target, info = take_in(tmp_path, json.dumps({"messages": turns, "tools": tools}) + "\n", "rows.jsonl")
    assert [remark.key for remark in info.remarks] == named
    assert remap(target, info.mapping).remarks == info.remarks


def test_a_column_that_begins_late_in_a_file_plays_its_part_or_is_named(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"instruction": f"Do {n}.", "output": f"Done {n}."} for n in range(1200)]
    rows[1150] |= {"input": "A text.", "history": [["Hi", "Hello"]], "rating": 4, "remark": None}
    rows[1160] |= {"rating": 3}
    path = tmp_path / "late.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    target = DatasetDir(tmp_path / "late")
    info = import_file(path, filename=path.name, name=None, target=target)
    assert info.columns[:2] == ["instruction", "output"] and {*info.columns[2:]} == {"input", "history", "rating"}
    assert (info.mapping.input, info.mapping.history, info.rows) == ("input", "history", 1200)
    assert [(remark.key, remark.params) for remark in info.remarks] == [("columns_unread", {"columns": "rating"})]
    late = read_rows(target, 1150, 1)[0].example
    assert late is not None and late.messages is not None
    assert [message.content for message in late.messages] == ["Hi", "Hello", "Do 1150.\n\nA text.", "Done 1150."]
    assert [json.loads(line) for line in target.rows_file.open()][1150]["messages"][0]["content"] == "Hi"


def test_a_column_that_begins_late_changes_no_other_part(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"question": f"What is {n}?", "answer": f"It is {n}."} for n in range(1200)]
    rows[1199] = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    path = tmp_path / "late.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    info = import_file(path, filename=path.name, name=None, target=DatasetDir(tmp_path / "late"))
    assert (info.mapping.shape, info.rows, info.problem_count) == ("question_answer", 1199, 1)
    assert [(remark.key, remark.params) for remark in info.remarks] == [("columns_unread", {"columns": "messages"})]


def test_repeated_rows_do_not_count_as_distinct(tmp_path: Path) -> None:
    _, info = take_in(tmp_path, pairs(30, repeat=4))
    assert (info.rows, info.distinct_rows, info.heldout_rows) == (120, 30, 0)


def prompt_of(example: Example) -> str:
    assert example.messages is not None
    return " ".join(example.messages[0].content.casefold().split())


def test_no_held_out_prompt_stands_in_training(tmp_path: Path) -> None:
    rows = [{"question": f"Question {n % 70}?" + " " * (n % 3), "answer": f"Answer {n % 140}."} for n in range(400)]
    target, info = take_in(tmp_path, rows)
    train, held = split(target)
    assert info.heldout_rows >= 40
    assert not {prompt_of(example) for example in train} & {prompt_of(example) for example in held}


def test_a_conversation_and_its_continuation_stay_on_one_side(tmp_path: Path) -> None:
    rows = []
    for n in range(100):
        start = [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}]
        more = [{"role": "user", "content": "more"}, {"role": "assistant", "content": f"b{n}"}]
        rows += [{"messages": start}, {"messages": start + more}]
    train, held = split(take_in(tmp_path, rows)[0])
    assert len(held) == 20
    assert not {prompt_of(example) for example in train} & {prompt_of(example) for example in held}


def test_rows_that_share_one_prompt_are_all_trained(tmp_path: Path) -> None:
    _, info = take_in(tmp_path, [{"question": "Tell a story.", "answer": f"Story {n}"} for n in range(100)])
    assert (info.distinct_rows, info.train_rows, info.heldout_rows) == (100, 100, 0)


def test_a_frequent_prompt_does_not_swallow_the_training_rows(tmp_path: Path) -> None:
    rows = [{"question": "Hello", "answer": f"Hi {n}"} for n in range(60)]
    _, info = take_in(tmp_path, [*rows, *pairs(60)])
    assert 20 <= info.heldout_rows <= 30


def test_the_same_rows_are_held_out_whatever_their_order(tmp_path: Path) -> None:
    first = {prompt_of(example) for example in split(take_in(tmp_path / "a", pairs(300))[0])[1]}
    second = {prompt_of(example) for example in split(take_in(tmp_path / "b", pairs(300)[::-1])[0])[1]}
    assert first == second and len(first) == 30


# --- the folder --------------------------------------------------------------------------------------------------------


def test_data_sets_are_listed_and_deleted(tmp_path: Path) -> None:
    target, info = take_in(tmp_path, pairs(3))
    assert [folder.read_info() for folder in list_datasets(target.path.parent)] == [info]
    target.delete()
    assert list_datasets(target.path.parent) == [] and target.find_info() is None
    assert list(target.path.parent.iterdir()) == []
    assert list_datasets(tmp_path / "nowhere") == []


@pytest.mark.parametrize("state", ["new", "old", "deleted"])
def test_what_a_crash_left_is_cleaned_up_and_a_replaced_data_set_comes_back(tmp_path: Path, state: str) -> None:
    target, info = take_in(tmp_path, pairs(3))
    root = target.path.parent
    target.path.rename(root / f".ds-1.{state}")
    assert list_datasets(root) == []
    clean_up(root)
    found = [folder.read_info() for folder in list_datasets(root)]
    assert found == ([info] if state == "old" else [])
    assert all(not path.name.startswith(".") for path in root.iterdir())


def test_a_crash_at_any_moment_of_a_new_mapping_leaves_a_whole_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, before = take_in(tmp_path, pairs(60))
    mapping = Mapping(shape="question_answer", instruction="answer", output="question")

    class Crash(BaseException):
        """The power fails."""

    def failing(original: Callable[..., Any], calls_left: list[int]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls_left[0] -= 1
            if calls_left[0] < 0:
                raise Crash
            return original(*args, **kwargs)

        return call

    crashes = 0
    for moment in range(20):
        with monkeypatch.context() as patch:
            calls_left = [moment]
            for owner, name in ((Path, "rename"), (Path, "mkdir")):
                patch.setattr(owner, name, failing(getattr(owner, name), calls_left))
            patch.setattr("shutil.rmtree", lambda *args, **kwargs: None)
            try:
                remap(target, mapping)
                break
            except Crash:
                crashes += 1
        clean_up(target.path.parent)
        info = target.read_info()
        assert info in (before, info.model_copy(update={"mapping": mapping}))
        assert info.content_hash == hashlib.sha256(target.rows_file.read_bytes()).hexdigest()
        assert sum(1 for _ in target.train_file.open()) == info.train_rows
    assert crashes >= 3


def test_ten_thousand_rows_are_imported(tmp_path: Path) -> None:
    _, info = take_in(tmp_path, pairs(10_000))
    assert info.rows == 10_000 and info.heldout_rows == 1000


@pytest.mark.parametrize(
    "row",
    [
        {"text": "A very long walk in the woods, and back home again.", "_input_hash": 1},
        {"text": "Fine weather.", "label": "GOOD"},
        {"prompt": "Why?", "response": "So."},
        {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]},
    ],
)
def test_rows_that_an_annotator_did_not_accept_are_set_aside_with_their_reason(tmp_path: Path, row: dict[str, Any]) -> None:
    verdicts = ["accept", "reject", "accept", "ignore"]
    target, info = take_in(tmp_path, [{**row, "answer": verdict} for verdict in verdicts])
    assert (info.rows, info.skipped_rows, info.mapping.verdict) == (2, 2, "answer")
    assert [example.row for example in target.read_examples()] == [1, 3]
    problems = [(problem.row, problem.column, problem.key, problem.params) for problem in info.problems]
    assert problems == [
        (2, "answer", "not_accepted", {"verdict": "reject"}),
        (4, "answer", "not_accepted", {"verdict": "ignore"}),
    ]


@pytest.mark.parametrize("late", ["So it is.", "reject"])
def test_answers_are_judged_by_an_annotator_only_where_every_row_is(tmp_path: Path, late: str) -> None:
    rows = [{"question": f"May I park at number {number}?", "answer": "accept"} for number in range(3)]
    target, info = take_in(tmp_path, [*rows, {"question": "Why?", "answer": late}])
    assert (info.mapping.output, info.mapping.verdict, info.rows) == ("answer", None, 4)
    assert turns(list(target.read_examples())[-1]) == [("user", "Why?"), ("assistant", late)]


def test_an_annotation_without_anything_to_learn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid):
        take_in(tmp_path, [{"question": "Why?", "answer": "accept", "_task_hash": number} for number in range(3)])


@pytest.mark.parametrize(("speaker", "content", "asked"), [("role", "content", "user"), ("from", "value", "human")])
def test_earlier_turns_may_be_written_as_a_conversation(tmp_path: Path, speaker: str, content: str, asked: str) -> None:
    history = [
        {speaker: "system", content: "Be kind."},
        {speaker: asked, content: "Hi"},
        {speaker: "assistant", content: "Hello"},
    ]
    row = {"instruction": "And you?", "output": "Fine.", "system": "", "history": history}
    target, _ = take_in(
        tmp_path, [row, {**row, "system": "Be brief.", "history": history[1:]}, {**row, "history": [["Hi", "Hello"]]}]
    )
    spoken = [("user", "Hi"), ("assistant", "Hello"), ("user", "And you?"), ("assistant", "Fine.")]
    assert [turns(example) for example in target.read_examples()] == [
        [("system", "Be kind."), *spoken],
        [("system", "Be brief."), *spoken],
        spoken,
    ]
