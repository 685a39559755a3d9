"""Look into a file without importing it: the report of an import, and its rows as read. Needs no studio."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from app.contracts.dataset import DatasetInfo, Mapping
from app.datasets.importing import check_file, shown
from app.datasets.reading import open_source
from app.datasets.rows import Watch, unwatched


def check_path(path: Path, *, mapping: Mapping | None = None, watch: Watch = unwatched) -> DatasetInfo:
    """Return what an import of the file would find out. Raise what import_file raises."""
    with TemporaryDirectory(prefix="affinage-") as folder:
        return check_file(path, filename=path.name, scratch=Path(folder) / "decoded", mapping=mapping, watch=watch)


def read_path(path: Path) -> Iterator[dict[str, str]]:
    """Yield every record of the file as texts. Raise Unsupported, DatasetInvalid, TooLarge."""
    with TemporaryDirectory(prefix="affinage-") as folder:
        for row in open_source(path, path.name, Path(folder) / "decoded").rows():
            yield {shown(name): shown(value) for name, value in row.values.items()}
