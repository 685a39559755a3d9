"""CSV as other programs write it: every dialect is recognised, and sentences with commas are not taken for tables."""

import csv
import io
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.errors import AffinageError
from app.datasets.importing import check_file
from app.datasets.reading import SourceFile, open_source

STEADY = settings(max_examples=250, deadline=None, database=None, derandomize=True)
"""The same tables in every run: some dialects can only be guessed, and a test must not fail by chance."""

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252")
NAMES = ("question", "réponse", "note", "id", "date", "my column", "Text", "answer")
WORDS = (
    "the", "cat", "Où", "été", "naïve", '"oui"', "l'eau", "don't", "a,b", "x;y", '5" disk', "'tis", "a|b", "t\tab",
    "semi ; colon",
    "C:\\temp", "back\\", "http://x.y/z?a=1&b=2", "#tag", "~", "^", "end.", "Why?", "(no)", "{a}", "[1]", "\n", "two\nlines",
    "=1+1", " lead", "trail ", "0", "12,5", "1.000,25", "2024-01-02", "-3", "",
)  # fmt: skip


class Table(NamedTuple):
    """A file as Python's csv module writes it."""

    rows: list[list[str]]
    dialect: dict[str, Any]
    encoding: str


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """A header and rows of words, under a dialect that leaves traces enough to be recognised."""
    cell = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)
    width = draw(st.integers(2, 4))
    header = draw(st.permutations(NAMES))[:width]
    rows = draw(st.lists(st.lists(cell, min_size=width, max_size=width), min_size=1, max_size=10))
    quotechar = draw(st.sampled_from('""\''))
    doubled = draw(st.booleans()) if quotechar == '"' else True
    # Only the usual quotation mark may stand around some cells alone: a single 'quoted' word is no proof of another one.
    always = quotechar == "'" or not doubled
    quoting = csv.QUOTE_ALL if always else draw(st.sampled_from((csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC)))
    ending = draw(st.sampled_from(("\n", "\r\n", "\r")))
    # Python leaves a break unquoted that does not end its own lines (RFC 4180 does not).
    rows = [[re.sub("\n", ending, text) for text in row] for row in rows]
    if not doubled:
        rows = [[text.replace("\\", "/") for text in row] for row in rows]
    dialect = {
        "delimiter": draw(st.sampled_from(",;\t|^~")),
        "quotechar": quotechar,
        "quoting": quoting,
        "doublequote": doubled,
        "escapechar": None if doubled else "\\",
        "lineterminator": ending,
    }
    return Table([header, *rows], dialect, draw(st.sampled_from(ENCODINGS)))


@STEADY
@given(table=tables())
def test_a_table_in_any_dialect_is_read_back_or_refused(tmp_path_factory: pytest.TempPathFactory, table: Table) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, **table.dialect).writerows(table.rows)
    folder = tmp_path_factory.mktemp("dialect")
    (folder / "a.csv").write_bytes(buffer.getvalue().encode(table.encoding))
    try:
        source = open_source(folder / "a.csv", "a.csv", folder / "decoded")
        rows = list(source.rows())
    except AffinageError as refusal:
        assert refusal.text("fr")[0]
        return
    assert [source.columns, *(list(row.values.values()) for row in rows)] == table.rows
    assert {problem.key for row in rows for problem in row.problems} <= {"empty_row"}


def read(folder: Path, content: str) -> tuple[SourceFile, list[list[object]]]:
    path = folder / "a.csv"
    path.write_bytes(content.encode())
    source = open_source(path, path.name, folder / "decoded")
    return source, [list(row.values.values()) for row in source.rows()]


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ('a,b\n"C:\\\\new\\\\",x\n"say \\"no\\"",y\n', [["C:\\new\\", "x"], ['say "no"', "y"]]),
        ('a,b\nsay \\"no\\" now,y\nC:\\new,x\n', [['say "no" now', "y"], ["C:\\new", "x"]]),
        ("a,b\none\\, two,x\nthree\\, four\\, five,y\n", [["one, two", "x"], ["three, four, five", "y"]]),
        ("a\tb\none\\\ttwo\tx\nthree\\\\four\ty\n", [["one\ttwo", "x"], ["three\\four", "y"]]),
        ('a,b\n"C:\\new\\",x\n"say ""no""",y\n', [["C:\\new\\", "x"], ['say "no"', "y"]]),
        ("'a','b'\n'It''s \"here\"','x'\n'No','y'\n", [['It\'s "here"', "x"], ["No", "y"]]),
        ("'a','b'\n'It\\'s, \"here\"','x'\n'No','y'\n", [['It\'s, "here"', "x"], ["No", "y"]]),
    ],
)
def test_escapes_are_read_as_their_writer_meant_them(tmp_path: Path, content: str, rows: list[list[str]]) -> None:
    assert read(tmp_path, content)[1] == rows


ONE_COLUMN = [
    ("text\nHello, world\nThe cat, sat, down, and slept.\nNo comma here.\n", ["text"]),
    ("text\nHello, world, again\nThe cat, sat, down\nOne, two, three\n", ["text"]),
    ("texte\nOui ; non ; peut-être\nAh ; bon\n", ["texte"]),
    ('text\n"Hello, world"\nBye, moon\nNothing\n', ["text"]),
    ('text\n"Hello", she said, loudly.\nBye, moon\n', ["text"]),
    ("prompt\nWrite a poem, please\nTell me, who, what, where?\n", ["prompt"]),
    ("note\nHello there, dear world of mine\nThe cat, sat, down, and slept for long.\n", ["note"]),
    ("The cat sat, and the dog ran.\nHello, you there.\nIt rains, it pours, the old man snores.\nNo comma.\n", ["column 1"]),
    ("Hello, you there.\nIt rains, it pours, the old man snores.\nNo comma at all.\n", ["column 1"]),
]


@pytest.mark.parametrize(("content", "columns"), ONE_COLUMN)
@pytest.mark.parametrize("times", [1, 300])
def test_sentences_with_commas_in_a_single_column_are_not_split(
    tmp_path: Path, content: str, columns: list[str], times: int
) -> None:
    header, _, body = content.partition("\n")
    named = columns != ["column 1"]
    source, rows = read(tmp_path, f"{header}\n{body * times}" if named else content * times)
    expected = body if named else content
    if "Bye, moon" not in content or '"Hello",' in content:
        assert rows == [[line] for line in expected.splitlines()] * times
    else:
        assert rows == [["Hello, world"], ["Bye, moon"], ["Nothing"]] * times
    assert source.columns == columns
    assert "whole_lines" in [remark.key for remark in source.remarks]


@pytest.mark.parametrize(
    "content",
    [
        "Report\na,b,c\n1,2,3\n4,5,6\n",
        "Questions\nN°,Intitulé,Détail\n1,Où est-ce ?,Ici\n2,Quand ?,Ce soir\n",
        "Questions\nquestion,answer\nWhere, is it?,There\nWhen?,Now\n",
        "Questions\nquestion, answer\nWhere is it?, There\nWhen?, Now\n",
        "question, answer\nWhat, then, is it?, There\nWhen?, Now\n",
        "a, b, c\n1, 2, 3\n4, 5\n6, 7, 8\n",
        "Where is it?, There.\nWhen is it?, Now.\n",
    ],
)
def test_tables_with_titles_and_spaces_stay_tables(tmp_path: Path, content: str) -> None:
    source, _ = read(tmp_path, content)
    assert source.delimiter == "," and len(source.columns) > 1


def test_a_single_column_is_used_under_its_name_and_asked_about_without(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\n" + "The cat sat, and the dog ran.\nIt rains, it pours, the old man snores.\nHello.\n" * 9)
    info = check_file(path, filename="a.csv", scratch=tmp_path / "scratch")
    assert (info.mapping.text, info.rows, info.confirmed, info.delimiter) == ("text", 27, True, None)
    path.write_text("The old cat sat on the warm mat, and the dog ran.\nIt rains, it pours, the very old man snores.\n" * 9)
    path.write_text(path.read_text() + "Hello you there, all of you, come in now, please.\n" * 9)
    info = check_file(path, filename="a.csv", scratch=tmp_path / "scratch")
    assert (info.mapping.text, info.rows, info.confirmed) == ("column 1", 27, False)
