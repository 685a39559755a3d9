"""Look into a file without importing it: the report of an import, and its rows as read. Needs no studio."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from app.contracts.dataset import DatasetInfo, Mapping
from app.core.errors import TooLarge
from app.datasets.containers import MAX_DECODED_BYTES
from app.datasets.importing import check_file, shown
from app.datasets.reading import open_source
from app.datasets.rows import Watch, unwatched

_CHUNK_BYTES = 1 << 20


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a file that can be read again and again: `path` itself, or a copy of what a pipe gives, which it gives only once.

    Raise TooLarge (`pipe`).
    """
    if not path.is_fifo():
        yield path
        return
    with TemporaryDirectory(prefix="affinage-") as folder:
        copy = Path(folder) / "given"
        with path.open("rb") as pipe, copy.open("wb") as file:
            while chunk := pipe.read(_CHUNK_BYTES):
                if file.tell() + len(chunk) > MAX_DECODED_BYTES:
                    raise TooLarge("pipe", most=f"{MAX_DECODED_BYTES >> 30} GiB")
                file.write(chunk)
        yield copy


def check_path(path: Path, *, mapping: Mapping | None = None, watch: Watch = unwatched) -> DatasetInfo:
    """Return what an import of the file would find out. Raise what import_file raises."""
    with TemporaryDirectory(prefix="affinage-") as folder, whole_file(path) as source:
        return check_file(source, filename=path.name, scratch=Path(folder) / "decoded", mapping=mapping, watch=watch)


def read_path(path: Path) -> Iterator[dict[str, str]]:
    """Yield every record of the file as texts. Raise Unsupported, DatasetInvalid, TooLarge."""
    with TemporaryDirectory(prefix="affinage-") as folder, whole_file(path) as source:
        for row in open_source(source, path.name, Path(folder) / "decoded").rows():
            yield {shown(name): shown(value) for name, value in row.values.items()}
