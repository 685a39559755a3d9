"""docs/security/immunity.md names a test beside each incident: every one of them exists."""

import re
from pathlib import Path

BACKEND = Path(__file__).resolve().parents[2]
TABLE = BACKEND.parent / "docs" / "security" / "immunity.md"
NAMED = re.compile(r"`([\w/]+\.py)`: ([^.`]+)")


def rows() -> list[list[str]]:
    """Return the cells of each incident's line."""
    lines = [line for line in TABLE.read_text("utf-8").splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [found for found in cells if found[0] != "incident" and not set(found[0]) <= set("-:")]


def find_tests(file: str) -> list[str]:
    """Return the names of the tests of a file, as sentences."""
    path = BACKEND / file if file.startswith("tests/") else BACKEND / "tests" / "security" / file
    return [name.replace("_", " ") for name in re.findall(r"^def test_(\w+)", path.read_text("utf-8"), re.MULTILINE)]


def test_every_incident_names_tests_that_exist() -> None:
    found = rows()
    assert len(found) >= 35
    for incident, _, proof in found:
        named = [(file, phrase.strip()) for file, phrases in NAMED.findall(proof) for phrase in phrases.split(";")]
        assert named, incident
        for file, phrase in named:
            sentence = phrase.partition(" (")[0]
            assert len(sentence.split()) >= 3, (incident, phrase)
            assert [name for name in find_tests(file) if name.startswith(sentence)], (incident, file, phrase)


def test_no_incident_stands_there_twice() -> None:
    ids = re.findall(r"(?:CVE-\d{4}-\d+|GHSA(?:-\w{4}){3}|PYSEC-\d{4}-\d+)", " ".join(cells[0] for cells in rows()))
    assert len(ids) > 60 and len(ids) == len(set(ids)), sorted({one for one in ids if ids.count(one) > 1})
