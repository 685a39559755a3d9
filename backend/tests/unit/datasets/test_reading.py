"""Recognising and reading files: what can be read is read exactly, what cannot is refused with its place."""

import codecs
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.errors import AffinageError, DatasetInvalid, TooLarge, Unsupported
from app.datasets import reading_csv, reading_json, reading_lines
from app.datasets.reading import SourceFile, open_source
from app.datasets.rows import Oddities, RawRow

QUICK = settings(max_examples=40, deadline=None, database=None)


def write(folder: Path, content: str | bytes, name: str = "file.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def read(folder: Path, content: str | bytes, name: str = "file.csv", encoding: str = "utf-8") -> tuple[SourceFile, list[RawRow]]:
    source = open_source(write(folder, content, name, encoding), name, folder / "decoded")
    return source, list(source.rows())


def values(rows: list[RawRow]) -> list[dict[str, Any]]:
    return [dict(row.values) for row in rows]


def refusal(folder: Path, content: str | bytes, name: str = "file.csv", encoding: str = "utf-8") -> AffinageError:
    with pytest.raises(AffinageError) as caught:
        read(folder, content, name, encoding)
    for language in ("en", "fr"):
        message, hint = caught.value.text(language)
        assert message and hint and "\n" not in message
    return caught.value


# --- CSV ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r"])
def test_delimiter_and_line_breaks_are_recognised(tmp_path: Path, delimiter: str, line_break: str) -> None:
    lines = [["question", "answer"], ["Où, quand ; comment ?", "Ici.\nEt là."], ["x", 'dit "oui"']]
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter, lineterminator=line_break, quoting=csv.QUOTE_ALL).writerows(lines)
    source, rows = read(tmp_path, buffer.getvalue())
    assert (source.format, source.delimiter, source.columns) == ("csv", delimiter, lines[0])
    assert values(rows) == [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    assert [row.row for row in rows] == [1, 2]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_text_in_any_usual_encoding_reads_the_same(tmp_path: Path, encoding: str) -> None:
    rows = [("Où êtes-vous ?", "À Mâcon, près de la gare, l’été « dehors »."), ("Ça va ?", "Ça coûte 3 €, cher cœur.")]
    text = "question;réponse\n" + "".join(f"{question};{answer}\n" for question, answer in rows * 30)
    source, found = read(tmp_path, text, encoding=encoding)
    assert codecs.lookup(source.encoding).name == codecs.lookup(encoding).name
    assert source.columns == ["question", "réponse"]
    assert [tuple(row.values.values()) for row in found] == rows * 30


def test_a_first_accent_far_inside_a_windows_file_is_found(tmp_path: Path) -> None:
    text = "question,answer\n" + "plain,ascii\n" * 20_000 + "déjà,vu\n"
    source, _ = read(tmp_path, text, encoding="cp1252")
    assert source.encoding == "cp1252"


def test_a_damaged_utf8_file_is_refused_with_its_line_and_not_read_as_windows_text(tmp_path: Path) -> None:
    broken = "question,answer\nÉtait-ce vrai,oui\n".encode() + b"caf\xe9,non\n"
    error = refusal(tmp_path, broken)
    assert error.key == "dataset_invalid.bad_encoding" and error.params["line"] == 3


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("rows_before", [1, 20_000])
@pytest.mark.parametrize("name", ["file.csv", "file.txt", "file.jsonl"])
def test_a_nul_character_is_refused_with_its_place_wherever_it_stands(
    tmp_path: Path, encoding: str, rows_before: int, name: str
) -> None:
    row = '{"question": "Où ?", "answer": "Là."}\n' if name.endswith("l") else "Où est-ce ?,Là.\n"
    header = "" if name.endswith("l") else "question,answer\n"
    text = header + row * rows_before + row.replace("L", "L\0") + row * 3
    error = refusal(tmp_path, text, name, encoding)
    assert error.key == "dataset_invalid.nul_character"
    assert error.params == {"line": bool(header) + rows_before + 1, "column": row.index("L") + 2}


def test_zeros_at_the_end_of_a_file_that_a_crash_left_are_refused_with_their_place(tmp_path: Path) -> None:
    error = refusal(tmp_path, b"question,answer\nWhere?,There.\n" + bytes(4096))
    assert (error.key, error.params) == ("dataset_invalid.nul_character", {"line": 3, "column": 1})


def test_zeros_among_other_control_characters_are_no_text(tmp_path: Path) -> None:
    assert refusal(tmp_path, b"question\x03\x00answer\x00\x00\x01there").key == "unsupported.binary"


@pytest.mark.parametrize(
    "text", ["質問,答え\n日本の首都はどこですか,東京です\n", "question,answer\nこんにちは,はい\n", "質問,答え\n朝食は何,ごはん"]
)
def test_a_short_japanese_file_is_read_as_japanese(tmp_path: Path, text: str) -> None:
    _, rows = read(tmp_path, text, encoding="cp932")
    assert [",".join(map(str, row.values.values())) for row in rows] == text.split()[1:]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp949", "질문,대답\n한국의 수도는 어디입니까,서울입니다 그리고 부산은 큰 도시입니다\n안녕하세요,반갑습니다\n"),
        ("gb18030", "问题,答案\n中国的首都是哪里,中国的首都是北京\n你好吗,我很好谢谢你的问候\n"),
        ("big5", "問題,答案\n台灣的首都在哪裡,台灣的首都是台北\n你好嗎,我很好謝謝你的問候\n"),
    ],
)
def test_korean_and_chinese_files_are_not_taken_for_japanese(tmp_path: Path, encoding: str, text: str) -> None:
    _, rows = read(tmp_path, text * 5, encoding=encoding)
    assert [",".join(map(str, row.values.values())) for row in rows[:2]] == text.split("\n")[1:3]


def test_a_file_that_ends_inside_a_character_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, "question,answer\né,é".encode()[:-1]).key == "dataset_invalid.bad_encoding"


def test_ragged_rows_come_with_row_and_column(tmp_path: Path) -> None:
    _, rows = read(tmp_path, "question,answer,note\na,b,c\nshort\na,b,c,extra\na,b,c,,\n\n,,\n")
    problems = [(problem.row, problem.column, problem.key) for row in rows for problem in row.problems]
    assert problems == [(2, "answer", "cells_missing"), (3, "note", "cells_surplus"), (5, None, "empty_row")]
    assert len(rows) == 5


def test_a_badly_quoted_row_is_a_problem_of_that_row_only(tmp_path: Path) -> None:
    _, rows = read(tmp_path, 'question,answer\na,b\n"x"y,z\nc,d\n')
    assert [row.row for row in rows] == [1, 2, 3]
    assert [problem.key for row in rows for problem in row.problems] == ["bad_quotes"]
    assert rows[1].problems[0].params == {"first_line": 3, "last_line": 3}
    assert values(rows)[2] == {"question": "c", "answer": "d"}


def test_a_quotation_mark_that_is_never_closed_is_refused_with_its_line(tmp_path: Path) -> None:
    error = refusal(tmp_path, 'question,answer\na,b\n"never closed,d\ne,f\n')
    assert error.key == "dataset_invalid.open_quote"
    assert (error.params["line"], error.params["row"]) == (3, 2)


def test_unnamed_and_repeated_columns_get_names_of_their_own(tmp_path: Path) -> None:
    source, rows = read(tmp_path, " question ,,answer,answer,\n1,2,3,4,\n")
    assert source.columns == ["question", "column 2", "answer", "answer (2)"]
    assert values(rows) == [{"question": "1", "column 2": "2", "answer": "3", "answer (2)": "4"}]


def test_the_delimiter_that_excel_declares_is_used(tmp_path: Path) -> None:
    source, rows = read(tmp_path, "sep=|\r\nquestion|answer\r\na,b|c\r\n")
    assert source.delimiter == "|"
    assert values(rows) == [{"question": "a,b", "answer": "c"}]


def test_commas_in_texts_do_not_hide_the_semicolon(tmp_path: Path) -> None:
    text = "question;answer\n" + "un, deux, trois;quatre, cinq\n" * 20
    assert read(tmp_path, text)[0].delimiter == ";"


def test_too_many_columns_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, ",".join(map(str, range(5000))) + "\n1\n").key == "dataset_invalid.too_many_columns"
    keys = json.dumps([dict.fromkeys(map(str, range(5000)), 1)])
    assert refusal(tmp_path, keys).key == "dataset_invalid.too_many_columns"


def test_a_row_beyond_all_measure_is_refused_in_every_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_json, "MAX_ROW_CHARACTERS", 1000)
    monkeypatch.setattr(reading_lines, "MAX_ROW_CHARACTERS", 1000)
    monkeypatch.setattr(reading_csv, "MAX_ROW_CHARACTERS", 1000)
    before = csv.field_size_limit(1000)
    try:
        for name, content in (
            ("a.csv", f"question,answer\na,{'x' * 5000}\n"),
            ("a.jsonl", '{"a": 1}\n{"a": "' + "x" * 5000 + '"}'),
        ):
            error = refusal(tmp_path, content, name)
            assert isinstance(error, TooLarge), name
            assert error.params["row"] == (1 if name == "a.csv" else 2)
    finally:
        csv.field_size_limit(before)


# --- JSON --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "file_format"),
    [
        ('[{"a": "é"}, {"a": "\\u00e8", "b": 2}]', "json"),
        ('\n [\n {"a": "é"} ,\n {"a": "è",\n "b": 2}\n ]\n\n', "json"),
        ('{"a": "é"}\n\n{"a": "è", "b": 2}\n', "jsonl"),
        ('{"a": "é"}\r\n{"a": "è", "b": 2}', "jsonl"),
        ('{\n  "a": "é"\n}\n{\n  "a": "è", "b": 2\n}\n', "json"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["file.json", "file.jsonl", "file.csv", "file"])
def test_json_is_recognised_by_its_content_whatever_its_name(
    tmp_path: Path, content: str, file_format: str, encoding: str, name: str
) -> None:
    source, rows = read(tmp_path, content, name, encoding)
    assert (source.format, source.columns) == (file_format, ["a", "b"])
    assert values(rows) == [{"a": "é"}, {"a": "è", "b": 2}]


@pytest.mark.parametrize(
    ("content", "line", "column"),
    [
        ('[{"a": 1},\n {"a": 2},\n {"a" 3}]', 3, 7),
        ('[{"a": 1}\n {"a": 2}]', 2, 2),
        ('[{"a": 1},\n {"a": 2}', 2, 10),
        ('[{"a": 1}]\nrest', 2, 1),
        ('{"a": 1}\n{"a": 2\n', 2, 8),
        ('{"a": 1}\n{"a": }\n', 2, 7),
        ('{"a": 1}\n  oops\n', 2, 3),
        ('{\n "a": 1,\n "b" 2\n}', 3, 6),
        ("not json at all", 1, 1),
        ("question,answer\na,b\n", 1, 1),
    ],
)
def test_broken_json_is_refused_with_line_and_column(tmp_path: Path, content: str, line: int, column: int) -> None:
    error = refusal(tmp_path, content, "file.json")
    assert error.key == "dataset_invalid.json"
    assert (error.params["line"], error.params["column"]) == (line, column)


@pytest.mark.parametrize(
    "content",
    [
        "[1,]",
        "[1 2]",
        '{"a" 1}',
        "{a: 1}",
        '["a',
        '["\n"]',
        '["\\q"]',
        '["\\u1"]',
        "[1] 2",
        "[1e999]",
        "[1",
        "[" + "9" * 5000 + "]",
        "tru",
    ],
)
def test_the_reason_why_json_is_refused_is_told_in_both_languages(tmp_path: Path, content: str) -> None:
    error = refusal(tmp_path, content, "file.json")
    reasons = [re.search(r"\((.*)\)", error.text(language)[0]) for language in ("en", "fr")]
    assert reasons[0] and reasons[1] and reasons[0][1] != reasons[1][1]
    assert "xpecting" not in reasons[0][1]


def test_a_break_far_inside_a_long_array_is_located(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_json, "_CHUNK_CHARACTERS", 64)
    lines = [f' {{"n": {number}, "text": "{"x" * (number % 90)}"}},' for number in range(500)]
    lines[321] = lines[321].replace('"text"', "text")
    error = refusal(tmp_path, "[\n" + "\n".join(lines) + "\n {}]", "file.json")
    assert (error.params["line"], error.params["column"]) == (323, 13)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("pattern", ['[{{"a": "NaN"}},\n {{"b": {}}}]', '{{"a": "NaN"}}\n{{"b": {}}}\n'])
def test_nan_and_infinity_are_refused_with_their_place(tmp_path: Path, constant: str, pattern: str) -> None:
    error = refusal(tmp_path, pattern.format(constant), "file.json")
    assert error.key == "dataset_invalid.json_constant"
    assert (error.params["line"], error.params["constant"]) == (2, constant)
    assert error.params["column"] == pattern.format(constant).splitlines()[1].index(constant) + 1


def test_deep_nesting_and_giant_numbers_end_in_a_sentence(tmp_path: Path) -> None:
    assert refusal(tmp_path, '[{"a": ' + "[" * 200_000, "file.json").key == "dataset_invalid.json_deep"
    assert refusal(tmp_path, '[{"a": ' + "9" * 10_000 + "}]", "file.json").key == "dataset_invalid.json"


def test_elements_that_are_no_objects_are_problems_of_their_rows(tmp_path: Path) -> None:
    _, rows = read(tmp_path, '[{"a": 1}, "text", 3, null, [1], true]', "file.json")
    problems = [(problem.row, problem.key, problem.params["kind"]) for row in rows for problem in row.problems]
    kinds = ["text", "number", "null", "list", "boolean"]
    assert problems == [(row, "not_an_object", kind) for row, kind in enumerate(kinds, 2)]


@pytest.mark.parametrize("name", ["file.jsonl", "file.json"])
def test_a_key_that_is_named_twice_far_inside_a_file_is_told(tmp_path: Path, name: str) -> None:
    plain = [json.dumps({"question": f'A colon: ":" and {{"a": {number}}}', "answer": str(number)}) for number in range(5000)]
    twice = [line[:-1] + ', "answer": "b"}' for line in plain[3000:]]
    lines = [*plain[:3000], *twice]
    content = "\n".join(lines) if name == "file.jsonl" else f"[{','.join(lines)}]"
    source = open_source(write(tmp_path, content, name), name, tmp_path / "decoded")
    oddities = Oddities()
    rows = list(source.rows(oddities))
    assert oddities.repeated_key is not None
    row, key = oddities.repeated_key
    # Of JSON Lines not every row is looked at, but every eighth block of 64 KiB.
    assert key == "answer" and 3001 <= row <= (3001 if name == "file.json" else 3001 + 8 * 1000)
    assert [row.values["answer"] for row in rows] == [*map(str, range(3000)), *["b"] * 2000]


# --- what is no table --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"\n \n\t", b"\xef\xbb\xbf", b"\xff\xfe", b"\x00\x00\x00"])
@pytest.mark.parametrize("name", ["file.csv", "file.json"])
def test_an_empty_file_is_refused_as_empty(tmp_path: Path, content: bytes, name: str) -> None:
    assert refusal(tmp_path, content, name).key == "dataset_invalid.empty_file"


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (b"%PDF-1.7\n....", "unsupported.document"),
        (b"\x7fELF\x02\x01\x01\x00\x00\x00\x00", "unsupported.binary"),
        (b"a,b\nc\x00,d\n", "unsupported.binary"),
    ],
)
def test_files_of_other_kinds_are_refused_with_what_to_do(tmp_path: Path, content: bytes, key: str) -> None:
    error = refusal(tmp_path, content)
    assert isinstance(error, Unsupported) and error.key == key


# --- properties --------------------------------------------------------------------------------------------------------

CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\r\t"), max_size=20)
FIRST = st.text("abcdefgh é", min_size=1, max_size=8).filter(lambda text: text.strip() != "")


@QUICK
@given(table=st.lists(st.tuples(FIRST, CELL, CELL), min_size=1, max_size=8), delimiter=st.sampled_from(",;\t|"))
def test_every_table_that_a_csv_writer_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, table: list[tuple[str, ...]], delimiter: str
) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([("question", "answer", "note"), *table])
    _, rows = read(tmp_path_factory.mktemp("csv"), buffer.getvalue())
    assert [tuple(row.values.values()) for row in rows] == table
    assert not any(row.problems for row in rows)


JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@QUICK
@given(
    rows=st.lists(st.dictionaries(st.text(max_size=6), JSON_VALUE, max_size=4), min_size=1, max_size=6),
    indent=st.sampled_from([None, 1]),
    layout=st.sampled_from(["array", "lines"]),
    chunk=st.integers(1, 40),
    ascii_only=st.booleans(),
)
def test_every_table_that_a_json_writer_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], indent: int | None, layout: str, chunk: int, ascii_only: bool
) -> None:
    # Half surrogate pairs exist in JSON escapes only.
    rows = json.loads(json.dumps(rows).encode("utf-8", "replace").replace(b"\\ud", b"\\u0"))
    if layout == "array":
        text = json.dumps(rows, indent=indent, ensure_ascii=ascii_only)
    else:
        # An object without keys is a whole line even when indented.
        rows = [row or {"a": 1} for row in rows]
        text = "\n".join(json.dumps(row, indent=indent, ensure_ascii=ascii_only) for row in rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading_json, "_CHUNK_CHARACTERS", chunk)
        patch.setattr(reading_lines, "_BUFFER_BYTES", chunk)
        _, found = read(tmp_path_factory.mktemp("json"), text, "file.json")
    assert values(found) == rows


@QUICK
@given(content=st.binary(max_size=200), name=st.sampled_from(["a.csv", "a.json", "a.jsonl", "a"]))
def test_any_bytes_are_read_or_refused_with_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str
) -> None:
    try:
        _, rows = read(tmp_path_factory.mktemp("bytes"), content, name)
    except (DatasetInvalid, Unsupported) as error:
        assert error.text("fr")[0]
    else:
        assert [row.row for row in rows] == list(range(1, len(rows) + 1))
