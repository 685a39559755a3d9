"""The rows of one finding: all of their places in a file, the first of them to be shown."""

from array import array
from pathlib import Path

from app.contracts.analysis import FindingCode


class Places:
    """Places of rows in rows.jsonl, from 0."""

    def __init__(self, most_shown: int) -> None:
        self._most_shown = most_shown
        self.all = array("I")
        self.shown: list[tuple[int, int | None, str]] = []
        """Place, the place of the row that it repeats, what was found."""

    def add(self, place: int, other: int | None, text: str) -> None:
        """Take one more."""
        self.all.append(place)
        if len(self.shown) < self._most_shown:
            self.shown.append((place, other, text))


def write_places(folder: Path, code: FindingCode, places: Places) -> int:
    """Write every place once; return how many there are."""
    with (folder / f"{code}.places").open("wb") as file:
        places.all.tofile(file)
    return len(places.all)


def read_places(folder: Path, code: FindingCode) -> "array[int]":
    """Return what write_places wrote. Raise FileNotFoundError where there is no such finding."""
    path = folder / f"{code}.places"
    places = array("I")
    with path.open("rb") as file:
        places.fromfile(file, path.stat().st_size // places.itemsize)
    return places
