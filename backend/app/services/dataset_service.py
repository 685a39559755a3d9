"""Data sets: import an upload, list, read, map, delete, show tokens. The folder is the truth, the row its index."""

import re
import uuid
from importlib.resources import as_file, files
from pathlib import Path

from sqlalchemy.orm import Session

from app.contracts.dataset import DatasetInfo, Mapping
from app.core.errors import Conflict, NotFound
from app.datasets.importing import RowView, import_file, read_rows, remap
from app.datasets.rows import Watch, unwatched
from app.services.studio import Studio
from app.storage.dataset_dir import DatasetDir
from app.storage.repositories import Datasets, Jobs
from app.storage.tables import JobRow

SAMPLE, SAMPLE_NAME = "helpdesk.csv", "helpdesk"
"""File in app/assets and the name that its data set gets."""
PLAIN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def import_upload(
    studio: Studio,
    source: Path,
    *,
    filename: str,
    name: str | None,
    mapping: Mapping | None = None,
    watch: Watch = unwatched,
) -> DatasetInfo:
    """Import a file as a new data set; it appears whole or not at all. Raise DatasetInvalid, Unsupported, TooLarge."""
    target = new_dir(studio)
    info = import_file(source, filename=filename, name=name, target=target, mapping=mapping, watch=watch)
    try:
        with studio.database.writing() as session:
            Datasets(session).put(info, studio.folder_id)
    except BaseException:  # Ctrl-C included: a folder that no list names would stay for good
        target.delete()
        raise
    return info


def import_sample(studio: Studio) -> DatasetInfo:
    """Return the sample that comes with Affinage; imported at the first call."""
    with as_file(files("app.assets").joinpath(SAMPLE)) as source:
        with studio.database.reading() as session:
            size = source.stat().st_size
            known = next(
                (info for info in list_datasets(studio, session) if (info.name, info.source_bytes) == (SAMPLE_NAME, size)), None
            )
        return known or import_upload(studio, source, filename=SAMPLE, name=SAMPLE_NAME)


def list_datasets(studio: Studio, session: Session) -> list[DatasetInfo]:
    """Return every data set, newest first."""
    folders = (studio.dataset_dir(dataset_id) for dataset_id in Datasets(session).ids_newest_first())
    return [info for folder in folders if (info := folder.find_info()) is not None]


def find_dir(studio: Studio, dataset_id: str) -> DatasetDir | None:
    """Return the folder of a data set, or None. An id that is no plain name finds nothing."""
    if not PLAIN_ID.fullmatch(dataset_id):
        return None
    folder = studio.dataset_dir(dataset_id)
    return folder if folder.find_info() is not None else None


def get_dir(studio: Studio, dataset_id: str) -> DatasetDir:
    """Return the folder of a data set. Raise NotFound."""
    folder = find_dir(studio, dataset_id)
    if folder is None:
        raise NotFound("dataset", dataset_id=dataset_id)
    return folder


def get_dataset(studio: Studio, dataset_id: str) -> DatasetInfo:
    """Return one data set. Raise NotFound."""
    return get_dir(studio, dataset_id).read_info()


def set_mapping(studio: Studio, dataset_id: str, mapping: Mapping) -> DatasetInfo:
    """Read the rows again with another mapping; of a data set that a job has used, as a new version.

    Raise NotFound, DatasetInvalid.
    """
    folder = get_dir(studio, dataset_id)
    with studio.database.reading() as session:
        used = Jobs(session).uses_dataset(dataset_id)
    same = folder.read_info().mapping == mapping
    info = remap(folder, mapping, version=new_dir(studio) if used and not same else None)
    with studio.database.writing() as session:
        Datasets(session).put(info, studio.folder_id)
    return info


def preview_mapping(studio: Studio, dataset_id: str, mapping: Mapping, limit: int) -> tuple[list[RowView], int]:
    """Return the first rows as another mapping would read them, and the number of rows in the file.

    Nothing is changed. Raise NotFound, DatasetInvalid for a mapping that cannot be used.
    """
    folder = get_dir(studio, dataset_id)
    return read_rows(folder, 0, limit, mapping=mapping), folder.read_info().rows_in_file


def new_dir(studio: Studio) -> DatasetDir:
    """Return the folder of a data set that is still to be made."""
    return studio.dataset_dir(f"ds-{uuid.uuid4().hex[:12]}")


def delete_dataset(studio: Studio, dataset_id: str) -> None:
    """Delete a data set. Raise NotFound, and Conflict while a job that has not ended uses it: such a job keeps its own links to
    the rows, but whoever looks at it wants to see its data."""
    folder = get_dir(studio, dataset_id)
    with studio.database.writing() as session:
        user = Jobs(session).find_user(JobRow.dataset_id == dataset_id)
        if user is not None:
            raise Conflict("dataset_in_use", job_id=user.job_id, status=user.status)
        Datasets(session).delete(dataset_id)
    folder.delete()


def list_rows(studio: Studio, dataset_id: str, offset: int, limit: int) -> tuple[list[RowView], int]:
    """Return rows as imported and as examples, and the number of rows in the file. Raise NotFound."""
    folder = get_dir(studio, dataset_id)
    return read_rows(folder, offset, limit), folder.read_info().rows_in_file
