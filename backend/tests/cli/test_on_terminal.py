"""The bar of an import as a person sees it: the real command on a real terminal."""

import json
import os
import re
from pathlib import Path

import pytest

from tests.cli.on_terminal import Session, run_on_terminal

ROWS = 700_000
_BYTES = re.compile(r"([\d.]+)/([\d.]+) MB")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 40 MB, which takes more than a second to read."""
    path = tmp_path_factory.mktemp("large") / "rows.csv"
    rows = (f'"What is number {number}, please?",It is {number * 7} and nothing else.\n' for number in range(ROWS))
    path.write_text("question,answer\n" + "".join(rows))
    return path


def environment(tmp_path: Path, language: str = "C.UTF-8") -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AFFINAGE_", "LC_", "LANG", "COLUMNS"))}
    return {**kept, "AFFINAGE_DATA_DIR": str(tmp_path / "data"), "LC_ALL": language}


def shown_megabytes(session: Session) -> list[float]:
    return [float(found[1]) for frame in session.frames if (found := _BYTES.search(frame))]


def test_a_check_draws_a_bar_that_grows_and_leaves_only_its_answer(large: Path, tmp_path: Path) -> None:
    columns = 60
    session = run_on_terminal(["data", "check", str(large)], environment(tmp_path), columns=columns)
    assert session.status == 0
    shown = shown_megabytes(session)
    assert len(shown) >= 3 and shown == sorted(shown) and shown[0] < shown[-1] <= large.stat().st_size / 1e6 + 0.1
    bars = [frame for frame in session.frames if "━" in frame]
    assert all(frame.startswith("Reading") and len(frame) <= columns for frame in bars) and "MB/s" in bars[-1]
    assert not any("━" in line for line in session.screen)
    assert session.screen[0] == "rows.csv" and str(ROWS) in session.screen[1]


def test_an_import_draws_its_bar_in_french_and_keeps_the_answer_alone_for_programs(large: Path, tmp_path: Path) -> None:
    session = run_on_terminal(["data", "import", str(large), "--json"], environment(tmp_path, "fr_FR.UTF-8"))
    assert session.status == 0 and len(shown_megabytes(session)) >= 3
    assert any(frame.startswith("Lecture") for frame in session.frames)
    assert json.loads("".join(session.screen))["rows"] == ROWS


def test_ctrl_c_takes_the_bar_away_says_so_and_leaves_nothing(large: Path, tmp_path: Path) -> None:
    pressed: list[bool] = []

    def press(received: str) -> bytes:
        if pressed or not _BYTES.search(received):
            return b""
        pressed.append(True)
        return b"\x03"

    session = run_on_terminal(["data", "import", str(large)], environment(tmp_path), press=press)
    assert session.status == 130
    assert session.screen[-1] == "Broken off; nothing of the file was kept."
    assert not any("━" in line for line in session.screen)
    assert not [path for path in (tmp_path / "data" / "datasets").rglob("*") if path.is_file()]
