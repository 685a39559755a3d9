"""The project's own sample, and the sample files of the field that lie on some machines."""

import csv
import json
from collections import Counter
from importlib.resources import as_file, files
from pathlib import Path

import pytest

from app.core.errors import AffinageError
from app.datasets.importing import import_file
from app.services.dataset_check import check_path
from app.storage.dataset_dir import DatasetDir

SHARED = Path("/work/shared/data")
ASSETS = files("app.assets")


def sample_rows() -> list[dict[str, str]]:
    return list(csv.DictReader(ASSETS.joinpath("helpdesk.csv").read_text("utf-8").splitlines()))


def test_the_sample_imports_without_a_problem_and_with_a_split(tmp_path: Path) -> None:
    with as_file(ASSETS.joinpath("helpdesk.csv")) as path:
        info = import_file(path, filename="helpdesk.csv", name=None, target=DatasetDir(tmp_path / "ds"))
    assert (info.mapping.shape, info.rows, info.distinct_rows, info.problem_count) == ("question_answer", 200, 200, 0)
    assert (info.train_rows, info.heldout_rows) == (180, 20)


def test_every_fact_of_the_sample_is_asked_in_four_ways_and_answered_in_one_sentence() -> None:
    rows = sample_rows()
    answers = Counter(row["answer"] for row in rows)
    assert len(answers) == 50 and set(answers.values()) == {4}
    assert len({row["question"] for row in rows}) == 200
    assert all(10 <= len(answer.split()) <= 25 and answer.endswith(".") for answer in answers)
    assert any(letter in "".join(answers) for letter in "éèàùôç")


def test_every_fact_of_the_sample_is_still_trained_after_the_split(tmp_path: Path) -> None:
    with as_file(ASSETS.joinpath("helpdesk.csv")) as path:
        target = DatasetDir(tmp_path / "ds")
        import_file(path, filename="helpdesk.csv", name=None, target=target)
    trained = {example.messages[-1].content for example in target.read_examples(target.train_file) if example.messages}
    assert trained == {row["answer"] for row in sample_rows()}


def test_the_demo_asks_in_words_that_are_not_in_the_sample_for_facts_that_are() -> None:
    demo = json.loads(ASSETS.joinpath("demo_questions.json").read_text("utf-8"))
    rows = sample_rows()
    assert len(demo) == 3 and sum(entry["language"] == "en" for entry in demo) >= 2
    for entry in demo:
        assert entry["question"] not in {row["question"] for row in rows}
        assert entry["fact"] not in entry["question"]
        assert sum(entry["fact"] in row["answer"] for row in rows) >= 4


OUTCOMES = [
    line.split("\t")
    for line in (Path(__file__).parent / "shared_outcomes.tsv").read_text("utf-8").splitlines()
    if not line.startswith("#")
]
"""File, outcome, format or message key, shape, rows, exact duplicates: what the program answered on 2026-11-22 (read through).

It shows that nothing changes unseen, not that each answer is right. Counts that were known beforehand are in KNOWN_COUNTS.
"""

KNOWN_COUNTS = {
    "llamafactory/alpaca_en_demo.json": (999, 14),
    "mlx_examples/wwdc25/data/train.jsonl": (1800, 437),
}
"""Rows and exact duplicates that were told to this project, not found out by it."""


@pytest.mark.parametrize("expected", OUTCOMES, ids=[line[0] for line in OUTCOMES])
def test_every_file_of_the_field_imports_as_it_should_or_is_refused_with_one_sentence(expected: list[str]) -> None:
    path = SHARED / expected[0]
    if not path.is_file():
        pytest.skip(f"{path} is not on this machine")
    try:
        info = check_path(path)
    except AffinageError as refusal:
        found = ["refused", refusal.key, "-", "0", "0"]
        for language in ("en", "fr"):
            message, hint = refusal.text(language)
            assert message and hint and "\n" not in message and len(message) < 500
    else:
        status = "usable" if info.confirmed else "needs_mapping"
        found = [status, info.format, info.mapping.shape, str(info.rows), str(info.rows - info.distinct_rows)]
    assert found == expected[1:]


@pytest.mark.parametrize(("name", "known"), KNOWN_COUNTS.items())
def test_files_whose_counts_are_known_from_elsewhere_have_them(name: str, known: tuple[int, int]) -> None:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{path} is not on this machine")
    info = check_path(path)
    assert (info.rows, info.rows - info.distinct_rows) == known


def test_no_file_of_the_field_is_left_out_of_the_table() -> None:
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not on this machine")
    papers = {"SOURCE.txt", "LICENSE", "LICENSE.txt", "DATA_LICENSE", "COPYING"}
    files = {str(path.relative_to(SHARED)) for path in SHARED.rglob("*") if path.is_file() and path.name not in papers}
    assert files == {line[0] for line in OUTCOMES}
