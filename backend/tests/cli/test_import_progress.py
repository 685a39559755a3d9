"""The bar that a terminal shows while a large file is read."""

import gzip
import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from app.cli import import_progress
from app.cli.import_progress import show_progress
from app.cli.terminal import Terminal
from app.core.errors import DatasetInvalid
from app.services.dataset_check import check_path

ROWS = 4000


def make_terminal(*, is_terminal: bool = True) -> tuple[Terminal, io.StringIO]:
    """A terminal of 100 columns whose stderr is kept."""
    written = io.StringIO()
    terminal = Terminal(as_json=False, language="en")
    terminal.__dict__["errors"] = Console(file=written, force_terminal=is_terminal, width=100, highlight=False)
    return terminal, written


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl.gz"
    rows = (json.dumps({"question": f"What is {number}?", "answer": f"It is {number * 7}. " * 20}) for number in range(ROWS))
    path.write_bytes(gzip.compress("\n".join(rows).encode(), mtime=0))
    return path


def test_the_bar_shows_each_stage_with_its_bytes_and_leaves_nothing(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_progress, "SHOWN_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(import_progress, "REDRAWN_AFTER_SECONDS", 0.0)
    terminal, written = make_terminal()
    with show_progress(terminal) as watch:
        assert check_path(packed, watch=watch).rows == ROWS
    text = written.getvalue()
    assert re.search(r"Unpacking.*\d/\d.* [kM]B", text) and re.search(r"Reading.*1\.\d/1\.\d MB", text)
    assert text.index("Unpacking") < text.index("Reading")
    # The last thing written wipes the line of the bar and shows the cursor again.
    assert text.endswith("\x1b[2K") and text.rindex("\x1b[?25h") > text.rindex("Reading")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_file_that_is_read_at_once_and_a_pipe_show_no_bar(packed: Path, is_terminal: bool) -> None:
    terminal, written = make_terminal(is_terminal=is_terminal)
    with show_progress(terminal) as watch:
        for done in range(1, 100) if not is_terminal else (1,):
            watch("reading", done, 100)
    assert not written.getvalue()


def test_a_refusal_takes_the_bar_away_before_its_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_progress, "SHOWN_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(import_progress, "REDRAWN_AFTER_SECONDS", 0.0)
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "a", "answer": "b"}\n' * 30_000 + "{", "utf-8")
    terminal, written = make_terminal()
    with pytest.raises(DatasetInvalid), show_progress(terminal) as watch:
        check_path(file, watch=watch)
    assert "Reading" in written.getvalue() and written.getvalue().endswith("\x1b[2K")


def test_an_import_that_is_broken_off_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_progress, "SHOWN_AFTER_SECONDS", 0.0)
    terminal, written = make_terminal()
    with pytest.raises(KeyboardInterrupt), show_progress(terminal) as watch:
        watch("reading", 1, 100)
        raise KeyboardInterrupt
    assert written.getvalue().endswith("Broken off; nothing of the file was kept.\n")
