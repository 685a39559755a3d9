"""Incidents of other programs that need a file, a lock file or the page itself to show that they cannot happen here.

Credentials, browsers, models and names have modules of their own; docs/security/immunity.md has the whole list.
"""

import gzip
import io
import os
import pickle
import re
import site
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from fastapi.testclient import TestClient
from pyarrow import parquet

import app
from app.core.settings import Settings
from app.main import create_app
from app.storage.db import sqlite_is_fixed, sqlite_module
from tests.api.conftest import check_error, dataset_id, upload
from tests.engine.tiny import write_llama
from tests.security.conftest import CANARY

REPOSITORY = Path(__file__).resolve().parents[3]
KNOWN_PTH = re.compile(r"_editable_impl_affinage\.pth|distutils-precedence\.pth|_virtualenv\.pth|__editable__.*affinage.*\.pth")
REFUSALS = (400, 413, 415, 422)


class LeavesACanary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_parquet_schema_that_carries_a_pickle_is_read_as_plain_columns(opened: TestClient, tmp_path: Path) -> None:
    """CVE-2023-47248 (pyarrow), CVE-2026-41486 (Ray): reading the schema alone ran code."""
    canary = tmp_path / CANARY
    evil = pickle.dumps(LeavesACanary(canary))
    for name in ("arrow.py_extension_type", "ray.data.arrow_tensor", "ray.data.arrow_pickled_object"):
        marks = {"ARROW:extension:name": name, "ARROW:extension:metadata": evil}
        fields = [pyarrow.field("question", pyarrow.string(), metadata=marks), pyarrow.field("answer", pyarrow.string())]
        table = pyarrow.table({"question": ["a", "b"], "answer": ["c", "d"]}, schema=pyarrow.schema(fields))
        parquet.write_table(table, tmp_path / "evil.parquet")
        answer = upload(opened, (tmp_path / "evil.parquet").read_bytes(), "evil.parquet")
        assert answer.status_code == 201, answer.text
        assert answer.json()["columns"] == ["question", "answer"]
    assert not canary.exists()
    pickle.loads(evil)  # the canary itself works
    assert canary.exists()


def test_pickles_and_archives_of_them_are_no_data(opened: TestClient, tmp_path: Path) -> None:
    """CVE-2026-57516 (webdataset), CVE-2023-6016 (H2O): an import that deserialises."""
    canary = tmp_path / CANARY
    evil = pickle.dumps(LeavesACanary(canary))
    weights, shards = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(weights, "w") as archive:  # as torch.save writes it
        archive.writestr("model/data.pkl", evil)
        archive.writestr("model/data/0", b"12345678")
    with tarfile.open(fileobj=shards, mode="w") as archive_of_shards:
        member = tarfile.TarInfo("0001.pyd")
        member.size = len(evil)
        archive_of_shards.addfile(member, io.BytesIO(evil))
    for name, content in (("rows.pkl", evil), ("model.pt", weights.getvalue()), ("shard.tar", shards.getvalue())):
        answer = upload(opened, content, name)
        assert answer.status_code in REFUSALS, (name, answer.text)
        assert answer.json()["error"]["message"]
    assert not canary.exists()
    assert opened.get("/api/datasets").json() == {"datasets": []}


def test_a_gguf_file_from_elsewhere_is_never_parsed(opened: TestClient) -> None:
    """CVE-2024-21802, CVE-2025-53630 and their kind: only the package's own file and our own exports are read."""
    package = Path(app.__file__).parent
    reading = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"GGUFReader|read_metadata\(|gguf_file=|import xllamacpp", path.read_text("utf-8"))
    }
    assert reading == {
        "training/embedded.py",  # the file of the installed, pinned package
        "training/gguf_metadata.py",  # defined there
        "export/loading_back.py",  # what was just written
        "export/llama_cpp.py",  # the same, in a child process
    }
    torn = b"GGUF" + (3).to_bytes(4, "little") + b"\xff" * 64  # 2^64 - 1 tensors, as many keys
    assert upload(opened, torn, "weights.gguf").status_code in REFUSALS
    folder = opened.app.state.studio.settings.data_dir / "mine"  # type: ignore[attr-defined]
    write_llama(folder)
    (folder / "model.safetensors").unlink()
    (folder / "model.gguf").write_bytes(torn)
    body = {"dataset_id": dataset_id(opened), "model_name": str(folder)}
    error = check_error(opened.post("/api/start-finetuning", json=body), 409, "model_unavailable")
    assert "model.safetensors" in error["message"]


def test_a_small_parquet_file_cannot_become_gigabytes(opened: TestClient, tmp_path: Path) -> None:
    """A dictionary that says one long text two thousand times: its own footer says nothing of what it grows to."""
    words = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 2000, pyarrow.int32()), pyarrow.array(["a" * (1 << 20)]))
    parquet.write_table(pyarrow.table({"question": words, "answer": words}), tmp_path / "bomb.parquet", compression="zstd")
    content = (tmp_path / "bomb.parquet").read_bytes()
    assert len(content) < 1 << 20
    check_error(upload(opened, content, "bomb.parquet"), 422, "dataset_invalid")
    assert sum(file.stat().st_size for file in opened.app.state.studio.settings.data_dir.rglob("*") if file.is_file()) < 8 << 20  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("deep.json", "[" * 100_000 + "]" * 100_000),
        ("deep.jsonl", '{"a":' * 5_000 + "1" + "}" * 5_000 + "\n"),
        ("number.jsonl", '{"question": ' + "9" * 200_000 + ', "answer": "b"}\n'),
        ("exponent.jsonl", '{"question": 1e999999999, "answer": "b"}\n'),
        ("wide.csv", ",".join(f"c{n}" for n in range(60_000)) + "\n" + "," * 59_999 + "\n"),
        ("line.txt", "a" * (20 << 20)),
        ("zeros.csv", "\0" * (1 << 20)),
        ("zip.csv.gz", gzip.compress(b"a" * (80 << 20))),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 20 else "",
)
def test_hostile_shapes_of_text_end_with_a_sentence(opened: TestClient, name: str, content: str | bytes) -> None:
    """Bombs of depth, of digits, of columns and of lines: refused in words, or read; never a defect, and nothing stays."""
    answer = upload(opened, content, name)
    assert answer.status_code in (201, *REFUSALS), answer.text[:500]
    if answer.status_code != 201:
        assert answer.json()["error"]["message"]
        assert not list((opened.app.state.studio.settings.data_dir / "datasets").iterdir())  # type: ignore[attr-defined]
    assert not list((opened.app.state.studio.settings.data_dir / "tmp").iterdir())  # type: ignore[attr-defined]


def test_no_request_can_bring_a_template_or_code(tmp_path: Path) -> None:
    """GHSA-69j4-grxj-j64p (vLLM): `chat_template` and its arguments came with a request."""
    document = create_app(Settings(data_dir=tmp_path)).openapi()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    names = {parameter["name"] for operation in operations for parameter in operation.get("parameters", [])}
    waiting = [operation.get("requestBody", {}) for operation in operations]
    met: set[str] = set()
    while waiting:  # every schema that a request's body leads to; answers may name a template, requests may not
        schema = waiting.pop()
        if isinstance(schema, list):
            waiting += schema
        elif isinstance(schema, dict):
            names |= set(schema.get("properties", {}))
            if (name := schema.get("$ref", "").rpartition("/")[2]) and name not in met:
                met.add(name)
                waiting.append(document["components"]["schemas"][name])
            waiting += [value for key, value in schema.items() if key != "$ref"]
    assert {"messages", "model_name", "limit"} <= names
    assert not {name for name in names if re.search(r"chat_template|trust_remote|auto_map|^code_", name)}


def test_no_text_of_a_file_is_written_as_csv_for_a_spreadsheet() -> None:
    """CVE-2026-9673, CWE-1236: cells that begin with = + - @ run in spreadsheets. CSV is written in the places below alone."""
    known = {
        "datasets/decoding.py": "a workbook's rows, for our own reader",
        "api/openai_wording.py": "steps and losses: numbers alone",
    }
    package = Path(app.__file__).parent
    writing = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"csv\.(writer|DictWriter)|text/csv|to_csv|write_csv", path.read_text("utf-8"))
    }
    assert "datasets/decoding.py" in writing
    assert writing <= set(known), "guard its cells (a quote before = + - @ tab and return), then name it here"


def test_the_database_is_free_of_the_bug_that_corrupts_it() -> None:
    """The WAL-reset race of SQLite 3.7.0 to 3.51.2 (sqlite.org/wal.html#walresetbug)."""
    assert sqlite_is_fixed(tuple(sqlite_module().sqlite_version_info))


def test_every_package_is_pinned_and_none_plants_code_at_start() -> None:
    """LiteLLM 1.82.7 (PYSEC-2026-2): a stolen token, a new version, a `.pth` file that runs in every Python."""
    lines = (REPOSITORY / "backend" / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert len(pins) > 40 and all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+( ?;.*)?", line) for line in pins), pins
    assert not [line for line in pins if line.lower().startswith(("litellm", "lightning"))]
    planted = [path.name for folder in site.getsitepackages() for path in Path(folder).glob("*.pth")]
    assert not [name for name in planted if not KNOWN_PTH.fullmatch(name)], planted


def test_the_page_puts_no_text_into_html() -> None:
    """CVE-2026-45315, CVE-2026-70486, CVE-2026-109300 (Open WebUI): an answer, a row or a name that became markup."""
    sources = [path for kind in ("*.ts", "*.tsx") for path in (REPOSITORY / "frontend" / "src").rglob(kind)]
    assert len(sources) > 50
    pattern = re.compile(
        r"dangerouslySetInnerHTML|\.(inner|outer)HTML\b|insertAdjacentHTML|document\.write|\beval\(|new Function\("
    )
    assert not [path for path in sources if pattern.search(path.read_text("utf-8"))]
