"""The quick way to an example gives what the thorough one gives, or nothing."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.contracts.dataset import Mapping
from app.datasets.examples import make_examples
from app.datasets.importing import import_file
from app.datasets.ordinary import compile_maker, compile_pair_maker
from app.datasets.rows import RawRow
from app.datasets.splitting import RowKeys
from app.storage.dataset_dir import DatasetDir

MAPPINGS = {
    "text": Mapping(shape="text", text="a"),
    "alpaca": Mapping(shape="alpaca", instruction="a", input="b", output="c"),
    "alpaca with a system text": Mapping(shape="alpaca", instruction="a", input="b", output="c", system="d"),
    "question and answer": Mapping(shape="question_answer", instruction="a", output="b"),
    "prompt and completion": Mapping(shape="prompt_completion", instruction="a", output="b", system="c"),
    "classes": Mapping(shape="classification", instruction="a", label="b"),
    "preferences": Mapping(shape="preference", instruction="a", output="b", rejected="c"),
    "messages": Mapping(shape="messages", messages="a"),
    "sharegpt": Mapping(shape="sharegpt", messages="a"),
}
PAIRS = [name for name, mapping in MAPPINGS.items() if compile_pair_maker(mapping) is not None]
QUICK = settings(max_examples=150, deadline=None, database=None)

LETTERS = st.characters(exclude_categories=["Cs"])
TEXTS = st.one_of(
    st.text(st.one_of(st.sampled_from(" \t\n\r\u00a0\u2028ab[{é"), LETTERS), max_size=12),
    st.sampled_from(["", " ", "a", "  def f():\n    pass\n", "\r\nA\r\n", '[{"role": "user"}]', "Human: a"]),
)
SPEAKERS = st.sampled_from(["user", "assistant", "system", "tool", "gpt", "human", "User", "nobody", ""])
NUMBERS = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))  # those that a file can hold
ODD = st.one_of(st.none(), st.booleans(), NUMBERS, st.lists(TEXTS, max_size=2))
TURNS = st.one_of(
    st.fixed_dictionaries({"role": SPEAKERS, "content": TEXTS}, optional={"weight": st.integers(0, 2)}),
    st.fixed_dictionaries({"from": SPEAKERS, "value": TEXTS}),
    st.fixed_dictionaries({"role": SPEAKERS, "content": ODD}),
    ODD,
)
CELLS = st.one_of(TEXTS, TEXTS, TEXTS, ODD)
TABLES = st.dictionaries(st.sampled_from("abcd"), CELLS)
CHATS = st.fixed_dictionaries({"a": st.one_of(st.lists(TURNS, max_size=4), TEXTS, ODD)}, optional={"b": CELLS})


USUAL_ROWS = [{"a": f"Question {n}", "b": "é" * (n % 3), "c": f"Answer {n}\n  to it"} for n in range(60)]


@pytest.mark.parametrize("name", MAPPINGS)
def test_what_is_made_quickly_is_what_is_made_thoroughly(name: str) -> None:
    mapping = MAPPINGS[name]
    make = compile_maker(mapping)
    assert make is not None

    @QUICK
    @given(CHATS if mapping.messages else TABLES, st.integers(1, 10**9))
    def check(values: dict[str, Any], row: int) -> None:
        found = make(row, values)
        assert found is None or ([found], []) == make_examples(RawRow(row, values), mapping)

    check()


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_that_are_made_together_are_those_made_one_by_one(name: str) -> None:
    mapping = MAPPINGS[name]
    make, make_pairs = compile_maker(mapping), compile_pair_maker(mapping)
    assert make is not None and make_pairs is not None

    @QUICK
    @given(st.lists(TABLES, max_size=4))
    def check(records: list[dict[str, Any]]) -> None:
        single = [make(row, values) for row, values in enumerate(records, 1)]
        together = make_pairs(records)
        if together is None:
            assert None in single
            return
        assert [
            {"row": row, "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
            for row, (question, answer) in enumerate(zip(*together, strict=True), 1)
        ] == single

    check()


USUAL: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("text", {"a": "One.\r\nTwo. "}, {"text": "One.\nTwo. "}),
    ("alpaca", {"a": " Why?", "b": "", "c": "So.\n"}, {"messages": [("user", "Why?"), ("assistant", "So.")]}),
    ("alpaca", {"a": "", "b": "Why?", "c": "So."}, {"messages": [("user", "Why?"), ("assistant", "So.")]}),
    ("alpaca", {"a": "Why", "b": "this?", "c": "  a\n  b"}, {"messages": [("user", "Why\n\nthis?"), ("assistant", "  a\n  b")]}),
    (
        "alpaca with a system text",
        {"a": "Why?", "c": "So.", "d": "Be brief."},
        {"messages": [("system", "Be brief."), ("user", "Why?"), ("assistant", "So.")]},
    ),
    ("question and answer", {"a": "Où ?", "b": "Là."}, {"messages": [("user", "Où ?"), ("assistant", "Là.")]}),
    ("prompt and completion", {"a": "Why?", "b": "So.", "c": None}, {"messages": [("user", "Why?"), ("assistant", "So.")]}),
    ("classes", {"a": "Good.", "b": "joy"}, {"messages": [("user", "Good."), ("assistant", "joy")]}),
    (
        "preferences",
        {"a": "Why?", "b": "So.", "c": "No."},
        {"messages": [("user", "Why?"), ("assistant", "So.")], "rejected": [("user", "Why?"), ("assistant", "No.")]},
    ),
    (
        "messages",
        {"a": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]},
        {"messages": [("user", "Why?"), ("assistant", "So.")]},
    ),
    (
        "sharegpt",
        {"a": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
        {"messages": [("user", "Why?"), ("assistant", "So.")]},
    ),
]


@pytest.mark.parametrize(("name", "values", "expected"), USUAL)
def test_usual_records_are_made_quickly(name: str, values: dict[str, Any], expected: dict[str, Any]) -> None:
    turns = {
        part: [{"role": role, "content": content} for role, content in given] if part != "text" else given
        for part, given in expected.items()
    }
    make = compile_maker(MAPPINGS[name])
    assert make is not None
    assert make(7, values) == {"row": 7, **turns}
    assert make_examples(RawRow(7, values), MAPPINGS[name]) == ([{"row": 7, **turns}], [])


@pytest.mark.parametrize("name", MAPPINGS)
def test_a_record_with_nothing_in_it_is_looked_at_closer(name: str) -> None:
    make = compile_maker(MAPPINGS[name])
    assert make is not None and make(1, {}) is None
    assert make_examples(RawRow(1, {}), MAPPINGS[name])[1]


@QUICK
@given(st.lists(st.tuples(TEXTS, TEXTS, st.sampled_from([None, True, False])), max_size=60))
def test_rows_counted_together_are_held_out_as_rows_counted_one_by_one(rows: list[tuple[str, str, bool | None]]) -> None:
    together, single = RowKeys(), RowKeys()
    together.add_pairs([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])
    for number, (question, answer, own) in enumerate(rows, 1):
        messages: list[Any] = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        single.add({"row": number, "messages": messages}, own)
    assert vars(together) == vars(single)


@settings(QUICK, max_examples=25)
@given(st.lists(st.one_of(TABLES, st.fixed_dictionaries({"a": st.just("Why?"), "b": TEXTS, "c": st.just("So.")})), max_size=40))
def test_lines_that_are_read_in_blocks_become_what_the_same_rows_in_an_array_become(rows: list[dict[str, Any]]) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        found: list[Any] = []
        for file, content in (
            (folder / "a.jsonl", "".join(json.dumps(row) + "\n" for row in [*rows, *USUAL_ROWS])),
            (folder / "a.json", json.dumps([*rows, *USUAL_ROWS])),
        ):
            file.write_text(content, "utf-8")
            target = DatasetDir(folder / file.suffix)
            info = import_file(file, filename="a", name=None, target=target, mapping=MAPPINGS["alpaca"])
            written = (target.rows_file.read_bytes(), target.train_file.read_bytes(), target.heldout_file.read_bytes())
            kept = info.model_dump(exclude={"dataset_id", "created_at", "format", "source_bytes"})
            found.append((kept, written))
        assert found[0] == found[1]
        assert info.heldout_rows
