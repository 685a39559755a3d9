"""Packed files, spreadsheets, columnar files, odd CSV and plain text: recognised by what they hold."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from app.contracts.dataset import CsvDialect
from app.core.errors import AffinageError, TooLarge
from app.datasets import containers
from app.datasets.importing import import_file, read_rows, remap
from app.datasets.reading import SourceFile, open_source
from app.storage.dataset_dir import DatasetDir

TABLE = "question,answer\nOù ?,Là.\nQuand ?,Demain.\n"
ROWS = [{"question": "Où ?", "answer": "Là."}, {"question": "Quand ?", "answer": "Demain."}]


def read(folder: Path, content: str | bytes, name: str) -> tuple[SourceFile, list[dict[str, object]]]:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    source = open_source(path, name, folder / "decoded")
    return source, [dict(row.values) for row in source.rows()]


def refusal(folder: Path, content: str | bytes, name: str) -> AffinageError:
    with pytest.raises(AffinageError) as caught:
        read(folder, content, name)
    for language in ("en", "fr"):
        message, hint = caught.value.text(language)
        assert message and hint and "\n" not in message
    return caught.value


def zipped(**members: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__", "."), text)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("pack", "name", "container"),
    [
        (gzip.compress, "a.csv.gz", "gzip"),
        (bz2.compress, "a.csv.bz2", "bzip2"),
        (lzma.compress, "a.csv.xz", "xz"),
        (lambda content: zipped(inner__csv=content.decode()), "a.zip", "zip"),
    ],
)
def test_a_packed_file_is_read_as_what_is_inside(
    tmp_path: Path, pack: Callable[[bytes], bytes], name: str, container: str
) -> None:
    source, rows = read(tmp_path, pack(TABLE.encode()), name)
    assert (source.format, source.container, rows) == ("csv", container, ROWS)


def test_packed_data_is_kept_and_read_again_under_another_mapping(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(TABLE.encode()))
    target = DatasetDir(tmp_path / "ds")
    info = import_file(path, filename=path.name, name=None, target=target)
    assert (info.rows, info.container) == (2, "gzip")
    assert target.source_file("csv").read_bytes() == path.read_bytes()
    swapped = info.mapping.model_copy(update={"instruction": "answer", "output": "question"})
    again = remap(target, swapped)
    assert (again.rows, again.container, again.mapping) == (2, "gzip", swapped)
    assert [view.values for view in read_rows(target, 0, 5)] == ROWS


def test_archives_with_no_or_many_files_or_damage_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, zipped(a__csv=TABLE, b__csv=TABLE), "a.zip").key == "unsupported.zip_members"
    assert refusal(tmp_path, zipped(), "a.zip").key == "unsupported.zip_members"
    assert refusal(tmp_path, zipped(**{"word/document.xml": "x"}), "a.docx").key == "unsupported.document"
    assert refusal(tmp_path, gzip.compress(TABLE.encode())[:-9], "a.csv.gz").key == "dataset_invalid.damaged_archive"
    assert refusal(tmp_path, b"PK\x03\x04....", "a.zip").key == "dataset_invalid.damaged_archive"
    for content in (b"PAR1....", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1....", b"ARROW1...."):
        assert refusal(tmp_path, content, "a").key == "dataset_invalid.damaged_table"


def test_a_bomb_is_refused_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "MAX_DECODED_BYTES", 1 << 21)
    error = refusal(tmp_path, gzip.compress(b"a" * (1 << 23)), "a.csv.gz")
    assert isinstance(error, TooLarge)
    assert (tmp_path / "decoded").stat().st_size <= 1 << 21


def test_parquet_with_nested_values_is_read_like_json(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    parquet.write_table(
        pyarrow.Table.from_pylist([{"messages": turns, "n": 1.5}, {"messages": turns, "n": None}]), tmp_path / "p"
    )
    source, rows = read(tmp_path, (tmp_path / "p").read_bytes(), "whatever.bin")
    assert source.format == "parquet"
    assert rows == [{"messages": turns, "n": 1.5}, {"messages": turns, "n": None}]


@pytest.mark.parametrize(
    ("content", "dialect"),
    [
        ("a^b^c\n1^2^3\n4^5^6\n", CsvDialect(delimiter="^")),
        ("a:b\n1:2\n3:4\n", CsvDialect(delimiter=":")),
        ("'a','b'\n'1,5','2'\n'3','4'\n", CsvDialect(quote="'")),
        ('a,b\n"say \\"x\\", y",2\n3,4\n', CsvDialect(backslash=True)),
        ('a\tb\n5" disk\t2\n"open\t4\n', CsvDialect(delimiter="\t", quote=None)),
        ("Rapport 2024\n\na;b;c\n1;2;3\n4;5;6\n", CsvDialect(delimiter=";", skipped=1)),
        (",,\nA long title,,\na,b,c\n1,2,3\n", CsvDialect(skipped=2)),
        ("1,2,3\n4,5,6\n", CsvDialect(header=False)),
        (
            "What is it, then ?;It is a thing that works.\nWhere is it now?;It is over there.\n",
            CsvDialect(delimiter=";", header=False),
        ),
    ],
)
def test_the_dialect_of_odd_tables_is_found(tmp_path: Path, content: str, dialect: CsvDialect) -> None:
    source, rows = read(tmp_path, content, "a.csv")
    assert source.dialect == dialect
    assert len(rows) == 2 - (dialect.skipped == 2)


def test_cells_of_odd_tables_are_exact(tmp_path: Path) -> None:
    assert read(tmp_path, 'a,b\n"say \\"x\\", y",c:\\d\n3,4\n', "a.csv")[1][0] == {"a": 'say "x", y', "b": "c:\\d"}
    assert read(tmp_path, 'a\tb\n5" disk\t2\n"open\t4\n', "a.tsv")[1] == [{"a": '5" disk', "b": "2"}, {"a": '"open', "b": "4"}]
    assert read(tmp_path, "a,b\n1,2\na,b\n3,4\n", "a.csv")[1] == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


def test_plain_text_is_read_by_paragraphs_or_by_lines(tmp_path: Path) -> None:
    source, rows = read(tmp_path, "First line,\nsecond line.\n\n\nNext, and last.\n", "a.txt")
    assert (source.format, rows) == ("text", [{"text": "First line,\nsecond line."}, {"text": "Next, and last."}])
    assert read(tmp_path, "One line.\nAnother, longer line.\n", "a.md")[1] == [
        {"text": "One line."},
        {"text": "Another, longer line."},
    ]


@pytest.mark.parametrize(
    "content",
    [
        '{"version": "1", "data": [{"a": "x"}, {"a": "y"}]}',
        '{"a": {"0": "x", "1": "y"}, "b": {"0": 1, "1": 2}}',
        '{\n"a": ["x", "y"],\n"b": [1, 2]\n}',
    ],
)
def test_a_table_inside_one_object_is_found(tmp_path: Path, content: str) -> None:
    source, rows = read(tmp_path, content, "a.json")
    assert [row["a"] for row in rows] == ["x", "y"]
    assert [remark.key for remark in source.remarks] == ["unwrapped"]


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        ('"text"', "a.json", [{"text": "text"}]),
        ("42", "a.json", [{"value": 42}]),
        ("[]", "a.json", []),
        ('["a", "b"]', "a.json", [{"text": "a"}, {"text": "b"}]),
        ('[{"role": "user"}]\n[{"role": "user"}]\n', "a.jsonl", [{"messages": [{"role": "user"}]}] * 2),
    ],
)
def test_any_valid_json_is_read(tmp_path: Path, content: str, name: str, expected: list[dict[str, object]]) -> None:
    assert read(tmp_path, content, name)[1] == expected


@pytest.mark.parametrize(
    "content",
    [
        '["a",]', '{"a": 1,}', "[1,,2]", "['a']", '{"a": 1} "x"', '{"a": 1}{"b": 2}', "[][]", "[1]]", "{}}", "[NaN]", "[-]",
        "[1.]",        "[0x1]", "[01]", '["\t"]', '["\\x00"]', "{a: 1}", "// c\n[]", '{"a": 1}/**/', "[" * 110 + "]" * 110,
        "\u2060[]", "tru",
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused_with_line_and_column(tmp_path: Path, content: str) -> None:
    error = refusal(tmp_path, content, "a.json")
    assert error.key.startswith("dataset_invalid.json")
    assert error.params["line"] and error.params["column"]


def test_own_splits_of_the_file_are_respected(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    lines = [f"Q{n}?,A{n}.,{'test' if n % 5 == 0 else 'train'}" for n in range(60)]
    path.write_text("question,answer,split\n" + "\n".join(lines) + "\n")
    target = DatasetDir(tmp_path / "ds")
    info = import_file(path, filename=path.name, name=None, target=target)
    assert (info.mapping.split, info.heldout_rows, info.train_rows) == ("split", 12, 48)
    assert {example.row % 5 for example in target.read_examples(target.heldout_file)} == {1}


def test_columns_known_only_by_their_content_are_proposed_and_not_used(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Betreff,Sendung\n" + "Wo ist mein Paket?,Es ist noch unterwegs.\n" * 3)
    info = import_file(path, filename=path.name, name=None, target=DatasetDir(tmp_path / "ds"))
    assert (info.mapping.instruction, info.mapping.output) == ("Betreff", "Sendung")
    assert not info.confirmed and info.confidence < 0.7
