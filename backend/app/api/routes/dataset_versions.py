"""Versions of data sets: findings of a second look, fixes and edits, rows to download."""

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from app.api.deps import LanguageDep, StudioDep
from app.api.responses import NOT_FOUND, problems
from app.api.schemas.datasets import AnalysisRead, DatasetList, DatasetRead, EditRequest, FixRequest
from app.api.wording import analysis_read, dataset_read
from app.datasets.exporting import ExportShape
from app.services import dataset_versions

router = APIRouter(prefix="/api/datasets/{dataset_id}", tags=["datasets"])

LINES = "application/x-ndjson"
_LINES_BODY: dict[int | str, dict[str, Any]] = {
    200: {"description": "One JSON object a line", "content": {LINES: {"schema": {"type": "string"}}}}
}


@router.get("/analysis", responses=NOT_FOUND)
def get_analysis(dataset_id: str, studio: StudioDep, language: LanguageDep) -> AnalysisRead:
    """Say what a second look at the rows found: duplicates, contradictions, refusals, personal data, ... It begins when asked."""
    return analysis_read(dataset_versions.read_analysis(studio, dataset_id), language)


@router.post("/fixes", status_code=201, responses=problems(404, 507))
def create_fix(
    dataset_id: str, fixes: FixRequest, *, request: Request, response: Response, studio: StudioDep, language: LanguageDep
) -> DatasetRead:
    """Mend findings in a new version; the data set itself stays as it is."""
    info = dataset_versions.fix_dataset(studio, dataset_id, fixes.findings)
    response.headers["Location"] = request.app.url_path_for("get_dataset", dataset_id=info.dataset_id)
    return dataset_read(info, language)


@router.post("/edits", status_code=201, responses=problems(404, 507))
def create_edit(
    dataset_id: str, edits: EditRequest, *, request: Request, response: Response, studio: StudioDep, language: LanguageDep
) -> DatasetRead:
    """Change, leave out or add rows in a new version; the data set itself stays as it is."""
    changed = {edit.row: edit.values for edit in edits.edited}
    info = dataset_versions.edit_dataset(studio, dataset_id, changed, edits.added)
    response.headers["Location"] = request.app.url_path_for("get_dataset", dataset_id=info.dataset_id)
    return dataset_read(info, language)


@router.get("/versions", responses=NOT_FOUND)
def list_versions(dataset_id: str, studio: StudioDep, language: LanguageDep) -> DatasetList:
    """List every version of the same data, the first one first."""
    return DatasetList(datasets=[dataset_read(info, language) for info in dataset_versions.list_versions(studio, dataset_id)])


@router.get("/bad-rows", response_class=StreamingResponse, responses={**NOT_FOUND, **_LINES_BODY})
def list_bad_rows(dataset_id: str, studio: StudioDep, language: LanguageDep) -> StreamingResponse:
    """Download every row that cannot be used, with its problems, as JSON Lines."""
    return _download(dataset_versions.list_bad_rows(studio, dataset_id, language), f"{dataset_id}-bad-rows.jsonl")


@router.get("/export", response_class=StreamingResponse, responses={**NOT_FOUND, **_LINES_BODY})
def export_rows(dataset_id: str, studio: StudioDep, shape: Annotated[ExportShape, Query()] = "messages") -> StreamingResponse:
    """Download the usable rows as JSON Lines in a shape of the field; one that cannot hold every row is refused."""
    return _download(dataset_versions.export_rows(studio, dataset_id, shape), f"{dataset_id}-{shape}.jsonl")


def _download(lines: Iterator[bytes], name: str) -> StreamingResponse:
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "X-Content-Type-Options": "nosniff"}
    return StreamingResponse(lines, media_type=LINES, headers=headers)
