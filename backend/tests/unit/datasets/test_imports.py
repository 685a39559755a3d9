"""Imports that are watched: their progress can be read while they run, and nobody's import is broken off."""

import gzip
import json
from pathlib import Path

import pytest

from app.core.errors import Cancelled, NotFound
from app.datasets.importing import import_file
from app.services.imports import Imports, ImportState
from app.storage.dataset_dir import DatasetDir

ROWS = 12_000


def packed(folder: Path) -> Path:
    path = folder / "rows.jsonl.gz"
    lines = (json.dumps({"question": f"What is {number}?", "answer": f"It is {number * 7}."}) + "\n" for number in range(ROWS))
    path.write_bytes(gzip.compress("".join(lines).encode(), mtime=0))
    return path


def test_whoever_named_an_import_can_follow_it_through_its_stages(tmp_path: Path) -> None:
    imports, seen = Imports(ask_seconds=0.0), list[ImportState]()

    def is_left() -> bool:
        seen.append(imports.get("import-1"))
        return False

    file = packed(tmp_path)
    with imports.watching("import-1", is_left) as watch:
        info = import_file(file, filename=file.name, name=None, target=DatasetDir(tmp_path / "ds"), watch=watch)
    assert info.rows == ROWS
    assert list(dict.fromkeys(state.stage for state in seen)) == ["unpacking", "reading", "splitting"]
    assert all(0 < state.done_bytes <= state.total_bytes for state in seen)
    for stage in ("unpacking", "reading", "splitting"):
        done = [state.done_bytes for state in seen if state.stage == stage]
        assert done == sorted(done) and done[-1] == next(state.total_bytes for state in seen if state.stage == stage)
    with pytest.raises(NotFound):
        imports.get("import-1")


@pytest.mark.parametrize("asked", [1, 4, 9])
def test_an_import_that_nobody_waits_for_ends_and_leaves_nothing(tmp_path: Path, asked: int) -> None:
    imports, answers = Imports(ask_seconds=0.0), iter([False] * asked + [True])
    file, target = packed(tmp_path), DatasetDir(tmp_path / "sets" / "ds")
    target.path.parent.mkdir()
    with pytest.raises(Cancelled), imports.watching("import-1", lambda: next(answers)) as watch:
        import_file(file, filename=file.name, name=None, target=target, watch=watch)
    assert list(target.path.parent.iterdir()) == []
    with pytest.raises(NotFound):
        imports.get("import-1")
