"""Odd files: each is taken as it should be, or refused in one sentence. And JSON as its grammar has it, nothing more."""
# ruff: noqa: E501 - tables of files

import io
import zipfile
from pathlib import Path

import pytest

from app.core.errors import AffinageError
from app.core.messages import localise
from app.datasets.importing import check_file, import_file
from app.datasets.reading import open_source
from app.storage.dataset_dir import DatasetDir
from tests.unit.datasets.odd_files import ALL, Odd
from tests.unit.datasets.other_tools import OTHER_TOOLS
from tests.unit.datasets.strangers_files import STRANGERS


@pytest.mark.parametrize("odd", [*ALL, *OTHER_TOOLS, *STRANGERS], ids=lambda odd: odd.name)
def test_an_odd_file_is_taken_as_it_should_be_or_refused_in_one_sentence(odd: Odd, tmp_path: Path) -> None:
    path = tmp_path / odd.name
    path.write_bytes(odd.content() if callable(odd.content) else odd.content)
    target = DatasetDir(tmp_path / "ds")
    try:
        info = import_file(path, filename=odd.name, name=None, target=target)
    except AffinageError as refusal:
        assert f"refused {refusal.key}" == odd.outcome
        for language in ("en", "fr"):
            message, hint = refusal.text(language)
            assert message and hint and "\n" not in message and "{" not in message
        assert not target.path.exists()
        return
    status = "usable" if info.confirmed else "needs_mapping"
    assert f"{status} {info.format} {info.mapping.shape} {info.rows}" == odd.outcome
    assert tuple(note.key for note in [*info.remarks, *info.problems]) == odd.notes
    for note in [*info.remarks, *info.problems]:
        assert localise(note.key, "fr", **note.params)[0] != localise(note.key, "en", **note.params)[0]
    example = next(target.read_examples())
    texts = [message.content for message in example.messages] if example.messages else [example.text or ""]
    assert not odd.first or tuple(texts) == odd.first
    checked = check_file(path, filename=odd.name, scratch=tmp_path / "scratch")
    told = {"dataset_id", "name", "created_at"}
    assert checked.model_dump(exclude=told) == info.model_dump(exclude=told)


def sheet(*rows: str) -> str:
    return f'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>{"".join(rows)}</sheetData>'


def row(number: int, *cells: str) -> str:
    written = "".join(
        f'<c r="{"ABC"[place]}{number}" t="inlineStr"><is><t>{text}</t></is></c>' for place, text in enumerate(cells) if text
    )
    return f'<row r="{number}">{written}</row>'


def workbook(*sheets: str, hidden: int = 0) -> bytes:
    """Return the smallest workbook that spreadsheet programs accept; `hidden`: the number of a sheet that is not shown."""
    office = "http://schemas.openxmlformats.org"
    states = {hidden: ' state="hidden"'}
    names = "".join(
        f'<sheet name="Feuille {n}" sheetId="{n}" r:id="r{n}"{states.get(n, "")}/>' for n in range(1, len(sheets) + 1)
    )
    relations = "".join(
        f'<Relationship Id="r{n}" Type="{office}/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet{n}.xml"/>'
        for n in range(1, len(sheets) + 1)
    )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{office}/package/2006/content-types"><Default Extension="xml" ContentType="application/xml"/></Types>',
        )
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{office}/package/2006/relationships"><Relationship Id="w" Target="xl/workbook.xml"'
            f' Type="{office}/officeDocument/2006/relationships/officeDocument"/></Relationships>',
        )
        archive.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{office}/spreadsheetml/2006/main" xmlns:r="{office}/officeDocument/2006/relationships">'
            f"<sheets>{names}</sheets></workbook>",
        )
        archive.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{office}/package/2006/relationships">{relations}</Relationships>',
        )
        for number, content in enumerate(sheets, 1):
            archive.writestr(f"xl/worksheets/sheet{number}.xml", content)
    return packed.getvalue()


def test_a_workbook_with_a_merged_title_and_a_second_sheet_is_read_below_the_title(tmp_path: Path) -> None:
    title = sheet(
        row(1, "Foire aux questions"), row(3, "Question", "Réponse", "Note"), row(4, "Où ?", "À Mâcon.", "1,5"),
        row(5, "Quand ?", "Demain."),
    ) + '<mergeCells count="1"><mergeCell ref="A1:C1"/></mergeCells></worksheet>'  # fmt: skip
    path = tmp_path / "classeur.xlsx"
    path.write_bytes(workbook(title, sheet(row(1, "autre")) + "</worksheet>"))
    target = DatasetDir(tmp_path / "ds")
    info = import_file(path, filename=path.name, name=None, target=target)
    assert (info.format, info.mapping.shape, info.rows) == ("xlsx", "question_answer", 2)
    assert [remark.key for remark in info.remarks] == ["title_lines", "other_sheets", "columns_unread"]
    assert [example.messages[-1].content for example in target.read_examples() if example.messages] == ["À Mâcon.", "Demain."]


def test_a_hidden_sheet_is_not_taken_for_the_rows(tmp_path: Path) -> None:
    shown = sheet(row(1, "question", "answer"), row(2, "Where?", "There.")) + "</worksheet>"
    kept = sheet(row(1, "question", "answer"), row(2, "Secret?", "Old.")) + "</worksheet>"
    path = tmp_path / "book.xlsx"
    path.write_bytes(workbook(kept, shown, hidden=1))
    assert [row.values["answer"] for row in open_source(path, path.name, tmp_path / "decoded").rows()] == ["There."]


def test_a_number_of_sixteen_digits_in_a_workbook_is_read_whole(tmp_path: Path) -> None:
    card = '<row r="2"><c r="A2" t="inlineStr"><is><t>Card?</t></is></c><c r="B2"><v>4970101234567890</v></c></row>'
    path = tmp_path / "book.xlsx"
    path.write_bytes(workbook(sheet(row(1, "question", "answer"), card) + "</worksheet>"))
    assert [row.values["answer"] for row in open_source(path, path.name, tmp_path / "decoded").rows()] == ["4970101234567890"]


@pytest.mark.parametrize("named", [True, False])
def test_errors_in_the_cells_of_a_workbook_are_told_with_the_place_of_the_first(tmp_path: Path, named: bool) -> None:
    place = ' r="B3"' if named else ""
    wrong = f'<row r="3"><c r="A3" t="inlineStr"><is><t>When?</t></is></c><c{place} t="e"><f>1/0</f><v>#DIV/0!</v></c></row>'
    other = '<row r="4"><c r="A4" t="inlineStr"><is><t>Who?</t></is></c><c r="B4" t="e"><v>#N/A</v></c></row>'
    path = tmp_path / "book.xlsx"
    path.write_bytes(workbook(sheet(row(1, "question", "answer"), row(2, "Where?", "There."), wrong, other) + "</worksheet>"))
    info = check_file(path, filename=path.name, scratch=tmp_path / "decoded")
    remarks = [(remark.key, remark.params) for remark in info.remarks]
    assert remarks == [("error_cells", {"count": 2, "cell": "B3" if named else "R3C2", "error": "#DIV/0!"})]
    assert info.rows == 1


def test_errors_in_a_sheet_that_is_not_read_are_not_told(tmp_path: Path) -> None:
    wrong = '<row r="1"><c r="A1" t="e"><v>#N/A</v></c></row>'
    path = tmp_path / "book.xlsx"
    path.write_bytes(
        workbook(*(sheet(*rows) + "</worksheet>" for rows in ((row(1, "question", "answer"), row(2, "a", "b")), [wrong])))
    )
    info = check_file(path, filename=path.name, scratch=tmp_path / "decoded")
    assert [remark.key for remark in info.remarks] == ["other_sheets"]


def test_a_sheet_of_opendocument_is_read(tmp_path: Path) -> None:
    names = ["office", "table", "text"]
    spaces = " ".join(f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in names)
    cells = [("question", "answer"), ("Où ?", "À Mâcon."), ("Quand ?", "Demain.")]
    rows = "".join(
        "<table:table-row>"
        + "".join(f'<table:table-cell office:value-type="string"><text:p>{text}</text:p></table:table-cell>' for text in pair)
        + "</table:table-row>"
        for pair in cells
    )
    path = tmp_path / "tableau.ods"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("META-INF/manifest.xml", "<manifest:manifest/>")
        archive.writestr(
            "content.xml",
            f"<office:document-content {spaces}><office:body><office:spreadsheet>"
            f'<table:table table:name="Feuille1">{rows}</table:table></office:spreadsheet></office:body></office:document-content>',
        )
    info = check_file(path, filename=path.name, scratch=tmp_path / "decoded")
    assert (info.format, info.mapping.shape, info.rows) == ("ods", "question_answer", 2)


REFUSED = [
    "", " ", "\n", "[", "]", "{", "}", "[1", "[1,", "[,]", "[,1]", "[1,]", "[1,,]", "[1,,2]", "[1:2]", "[1 2]", "[1]]", "[1]x",
    "[[1]", "[][]", "[1],", ",[1]", "1]", "2@", "{]", "{}}", "{}#", "{,}", "{,,}", '{"a"}', '{"a":}', '{"a":1,}', '{"a":1,,"b":2}',
    '{"a" "b"}', '{"a",1}', '{"a"::1}', '{"a":1 "b":2}', '{"a":1,"b"}', "{a:1}", "{1:1}", "{null:1}", '{[:"x"}', '{"a":"b"}/**/',
    '{"a":"b"}//', "/* */[]", "# x\n[]", '[""],', '["', '["a', '["a"', '["a', "['a']", "[a", "[a]", '["a\\"]', '["\\"]',
    '["\\x00"]', '["\\q"]', '["\\u"]', '["\\u1"]', '["\\u00A"]', '["\\uD800\\u"]', '["\\uD800\\u1"]', '["\\u{41}"]', '["\t"]',
    '["a\nb"]', '["a\0b"]', '"', '"a', "abc", "tru", "True", "[True]", "nul", "[nul]", "undefined", "[NaN]", "[-NaN]", "[Infinity]",
    "[-Infinity]", "[+1]", "[++1]", "[-]", "[- 1]", "[-01]", "[01]", "[012]", "[-012]", "[.1]", "[-.1]", "[1.]", "[-1.]", "[1.e1]",
    "[1e]", "[1e+]", "[1eE2]", "[1E]", "[1.0e]", "[1.0e+]", "[1.0e-]", "[0e]", "[0.e1]", "[0x1]", "[0x42]", "[1_000]", "[1 000.0]",
    "[1.2.3]", "[1+2]", "[1e400]", "[-1e999]", "[1.2a]", "[1a]", "[\uff11]", "[\u0661]", "[\u2060]", "[\x0c]", "[\x0b]", "[\xa0]",
    "\u2060[]", "\xe5", "*", "<.>", "[<null>]", "&", "[*]", "\x00", "[\x00]", "123\x00", "[" * 102 + "]" * 102,
    '{"a":' * 101 + "1" + "}" * 101, "[" * 100_000, '[{"":' * 50_000,
]  # fmt: skip
"""What the grammar of RFC 8259 has no place for, the nesting that it lets a reader limit, and numbers beyond a double's range."""

ACCEPTED = [
    "[]", " [] ", "\r\n[\t]\n", "[[]]", "{}", "[{}]", "[null]", "[1]\n", "[true,false]", "[0]", "[-0]", "[-1]", "[1.5]", "[-1.5]",
    "[0.1]", "[1e1]", "[1E1]", "[1e+1]", "[1e-1]", "[1E-22]", "[0e1]", "[0e+1]", "[123.456e78]", "[123456789012345678901234567890]",
    "[-123456789012345678901234567890]", "[0.000000000000000000000000000000000000000000000000000000000000000000001]", '[""]',
    '["a"]', '["\\""]', '["\\\\"]', '["\\/"]', '["\\b\\f\\n\\r\\t"]', '["\\u0000"]', '["\\u0041"]', '["\\uD83D\\uDE00"]',
    '["\\\\u0000"]', '["\x7f"]', '["\u2028\u2029"]', '["\U0010ffff"]', '["\ufffe"]', '["\ufeffa"]', '["/* no comment */"]',
    '{"a":1}', '{"":0}', '{"a":[{"b":{}}]}', '{"a":"b","a":"c"}', '{"a\\u0000b":1}', '"lonely"', "42", "-0.1", "null", "true",
    '[1,null,"a",{},[]]', "[" * 100 + "]" * 100,
]  # fmt: skip
"""What it has a place for."""


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("text", REFUSED, ids=lambda text: repr(text[:20]))
def test_what_the_grammar_refuses_is_refused(text: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode())
    with pytest.raises(AffinageError) as refused:
        list(open_source(path, name, tmp_path / "decoded").rows())
    if refused.value.key.startswith("dataset_invalid.json"):
        assert refused.value.params["line"] >= 1 and refused.value.params["column"] >= 1


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("text", ACCEPTED, ids=lambda text: repr(text[:20]))
def test_what_the_grammar_accepts_is_read(text: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode())
    rows = list(open_source(path, name, tmp_path / "decoded").rows())
    assert [found.row for found in rows] == list(range(1, len(rows) + 1))
