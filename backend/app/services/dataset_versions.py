"""Versions of data sets: what a second look found, fixes and edits as new versions, rows to take away."""

import json
from collections.abc import Iterable, Iterator, Mapping

from app.contracts.dataset import DatasetInfo
from app.core.messages import Language, localise
from app.datasets.examples import make_examples
from app.datasets.exporting import ExportShape, export_lines
from app.datasets.importing import open_again, shown
from app.datasets.versions import edit_rows, fix
from app.services.analyses import AnalysisState
from app.services.dataset_service import get_dir, new_dir
from app.services.studio import Studio
from app.storage.dataset_dir import DatasetDir
from app.storage.repositories import Datasets


def read_analysis(studio: Studio, dataset_id: str) -> AnalysisState:
    """Return what a second look found, or how far it is. Raise NotFound."""
    return studio.analyses.read(get_dir(studio, dataset_id))


def fix_dataset(studio: Studio, dataset_id: str, findings: list[str]) -> DatasetInfo:
    """Make a new version in which these findings are mended. Raise NotFound, Invalid, DatasetInvalid."""
    parent = get_dir(studio, dataset_id)
    if any(code != "bad_rows" for code in findings):
        studio.analyses.get(parent)
    return _put(studio, fix(parent, new_dir(studio), findings))


def edit_dataset(
    studio: Studio,
    dataset_id: str,
    edited: Mapping[int, Mapping[str, object] | None],
    added: Iterable[Mapping[str, object]] = (),
) -> DatasetInfo:
    """Make a new version with changed, removed (None) and added rows. Raise NotFound, Invalid, DatasetInvalid."""
    return _put(studio, edit_rows(get_dir(studio, dataset_id), new_dir(studio), edited, added))


def list_versions(studio: Studio, dataset_id: str) -> list[DatasetInfo]:
    """Return every version of the same data, the first one first. Raise NotFound."""
    info = get_dir(studio, dataset_id).read_info()
    origin = info.origin or info.dataset_id
    with studio.database.reading() as session:
        ids = Datasets(session).ids_newest_first()
    found = (studio.dataset_dir(each).find_info() for each in ids)
    family = [each for each in found if each is not None and origin in (each.dataset_id, each.origin)]
    return sorted(family, key=lambda each: (each.version, each.created_at, each.dataset_id))


def list_bad_rows(studio: Studio, dataset_id: str, language: Language) -> Iterator[bytes]:
    """Yield a line of JSON for every row that cannot be used: its problems and its values. Raise NotFound."""
    return _bad_rows(get_dir(studio, dataset_id), language)


def export_rows(studio: Studio, dataset_id: str, shape: ExportShape) -> Iterator[bytes]:
    """Yield the usable rows as JSON Lines of a shape. Raise NotFound, Invalid (`shape_loses`) before the first line."""
    return export_lines(get_dir(studio, dataset_id), shape)


def _put(studio: Studio, info: DatasetInfo) -> DatasetInfo:
    with studio.database.writing() as session:
        Datasets(session).put(info, studio.folder_id)
    return info


def _bad_rows(folder: DatasetDir, language: Language) -> Iterator[bytes]:
    mapping = folder.read_info().mapping
    for raw in open_again(folder).rows():
        _, problems = make_examples(raw, mapping)
        if problems:
            said = [
                {
                    "column": problem.column,
                    "code": problem.key,
                    "message": localise(problem.key, language, **problem.params)[0],
                }
                for problem in problems
            ]
            values = {name: shown(value) for name, value in raw.values.items()}
            yield json.dumps({"row": raw.row, "problems": said, "values": values}, ensure_ascii=False).encode() + b"\n"
