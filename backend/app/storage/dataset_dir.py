"""The files of one data set.

datasets/<id>/
    source.<ext>        the file as it was given, unchanged
    decoded             its rows as text, where it is packed or no text itself
    rows.jsonl          the usable rows, one contracts.dataset.Example a line
    train.jsonl         the rows that are trained
    heldout.jsonl       the rows that are only measured (empty when there are too few rows)
    dataset.json        DatasetInfo
    analysis/           what a second look at the rows found (a cache, may be deleted)
    tokens/             token counts of the rows by tokenizer (a cache, may be deleted)

A data set appears under its id complete or not at all: it is built in `.<id>.new` and renamed.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.contracts.analysis import Analysis
from app.contracts.dataset import DatasetInfo, Example, FileFormat
from app.storage.job_dir import fsync_folder, write_atomically


class DatasetDir:
    """Paths and files of one data set. The folder's name is the data set's id."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dataset_id = path.name
        self.info_file = path / "dataset.json"
        self.rows_file = path / "rows.jsonl"
        self.train_file = path / "train.jsonl"
        self.heldout_file = path / "heldout.jsonl"
        self.tokens_folder = path / "tokens"
        self.analysis_folder = path / "analysis"

    def source_file(self, file_format: FileFormat) -> Path:
        """Return where the given file is kept."""
        return self.path / f"source.{file_format}"

    @property
    def decoded_file(self) -> Path:
        """Return where the rows of a file stand that cannot be read itself (packed, a spreadsheet, ...)."""
        return self.path / "decoded"

    def write_info(self, info: DatasetInfo) -> None:
        """Replace dataset.json."""
        write_atomically(self.info_file, info.model_dump_json(indent=2))

    def read_info(self) -> DatasetInfo:
        """Return dataset.json. Raise FileNotFoundError where there is no such data set."""
        return DatasetInfo.model_validate_json(self.info_file.read_bytes())

    def find_info(self) -> DatasetInfo | None:
        """Return dataset.json, or None where there is no such data set."""
        try:
            return self.read_info()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def find_analysis(self) -> Analysis | None:
        """Return what a second look at the rows found, or None where nobody has looked at these rows yet."""
        try:
            analysis = Analysis.model_validate_json((self.analysis_folder / "analysis.json").read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        info = self.find_info()
        return analysis if info is not None and info.content_hash == analysis.content_hash else None

    def read_examples(self, path: Path | None = None) -> Iterator[Example]:
        """Yield the examples in `rows.jsonl`, or in another of the row files."""
        with (path or self.rows_file).open("rb") as file:
            for line in file:
                yield Example.model_validate_json(line)

    def delete(self) -> None:
        """Remove the folder; from the first moment on it no longer counts as a data set."""
        doomed = self.path.with_name(f".{self.path.name}.deleted")
        shutil.rmtree(doomed, ignore_errors=True)
        try:
            self.path.rename(doomed)
        except FileNotFoundError:
            return
        shutil.rmtree(doomed)

    @contextmanager
    def rebuilt(self) -> Iterator["DatasetDir"]:
        """Give an empty folder to fill, which takes this one's place when the block ends without an error."""
        fresh = DatasetDir(self.path.with_name(f".{self.path.name}.new"))
        old = self.path.with_name(f".{self.path.name}.old")
        shutil.rmtree(fresh.path, ignore_errors=True)
        fresh.path.mkdir(mode=0o700, parents=True)
        try:
            yield fresh
            for file in fresh.path.iterdir():
                _fsync_file(file)
            fsync_folder(fresh.path)
            if self.path.exists():
                shutil.rmtree(old, ignore_errors=True)
                self.path.rename(old)
            fresh.path.rename(self.path)
            fsync_folder(self.path.parent)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(fresh.path, ignore_errors=True)


def list_datasets(datasets_folder: Path) -> list[DatasetDir]:
    """Return every complete data set in the folder, by id."""
    if not datasets_folder.is_dir():
        return []
    folders = (DatasetDir(path) for path in sorted(datasets_folder.iterdir()) if not path.name.startswith("."))
    return [folder for folder in folders if folder.info_file.is_file()]


def clean_up(datasets_folder: Path) -> None:
    """Undo what a crash left: put back a data set that was being replaced, remove half-built and half-deleted ones.

    To be called once at start, before anything is imported.
    """
    if not datasets_folder.is_dir():
        return
    for path in sorted(datasets_folder.glob(".*")):
        dataset_id, _, state = path.name[1:].rpartition(".")
        if state == "old" and not (datasets_folder / dataset_id).exists():
            path.rename(datasets_folder / dataset_id)
        elif state in ("old", "new", "deleted"):
            shutil.rmtree(path, ignore_errors=True)


def _fsync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
