"""Data sets: import, look at, map, delete."""

from typing import Annotated

from anyio import from_thread
from fastapi import APIRouter, Query, Request, Response

from app.api.deps import LanguageDep, SessionDep, StudioDep
from app.api.responses import NOT_FOUND, problems
from app.api.schemas.datasets import DatasetList, DatasetRead, ImportRead, RowPage, TokenReportRead, TokensRead
from app.api.token_wording import token_report_read, tokens_read
from app.api.uploads import UPLOAD_BODY, UploadDep
from app.api.wording import dataset_read, row_read
from app.contracts.dataset import Mapping
from app.contracts.options import LongRows, Method
from app.services import dataset_service, token_service

MaxLength = Annotated[int | None, Query(ge=8, le=131072)]

ImportName = Annotated[str | None, Query(min_length=8, max_length=64, pattern="^[A-Za-z0-9-]+$")]

router = APIRouter(prefix="/api/datasets", tags=["datasets"])
imports = APIRouter(prefix="/api/imports", tags=["datasets"])


@router.post("", status_code=201, responses=problems(413, 415, 507), openapi_extra=UPLOAD_BODY)
def create_dataset(
    request: Request,
    response: Response,
    studio: StudioDep,
    language: LanguageDep,
    upload: UploadDep,
    *,
    import_id: ImportName = None,
) -> DatasetRead:
    """Import a CSV, JSON or JSONL file: its shape is detected, each problem is named with its row.

    `import_id` is a name of the caller's choice under which `GET /api/imports/{import_id}` says how far the import is. Closing
    the connection breaks it off, and nothing of it stays.
    """
    studio.tracing.warm()  # a plan for this data will be asked for next
    with studio.imports.watching(import_id, lambda: from_thread.run(request.is_disconnected)) as watch:
        info = dataset_service.import_upload(studio, upload.path, filename=upload.filename, name=upload.name, watch=watch)
    response.headers["Location"] = request.app.url_path_for("get_dataset", dataset_id=info.dataset_id)
    return dataset_read(info, language)


@imports.get("/{import_id}", responses=NOT_FOUND)
def get_import(import_id: str, studio: StudioDep) -> ImportRead:
    """Say how far the import is that a POST to /api/datasets named so; not found before it begins and after it ends."""
    state = studio.imports.get(import_id)
    return ImportRead(stage=state.stage, done_bytes=state.done_bytes, total_bytes=state.total_bytes, seconds=state.seconds)


@router.post("/sample", status_code=201, responses=problems(507))
def create_sample(studio: StudioDep, language: LanguageDep) -> DatasetRead:
    """Import the sample data set, or return it when it is there already: for a first run without a file of one's own."""
    studio.tracing.warm()
    return dataset_read(dataset_service.import_sample(studio), language)


@router.get("")
def list_datasets(studio: StudioDep, session: SessionDep, language: LanguageDep) -> DatasetList:
    """List data sets, newest first."""
    return DatasetList(datasets=[dataset_read(info, language) for info in dataset_service.list_datasets(studio, session)])


@router.get("/{dataset_id}", responses=NOT_FOUND)
def get_dataset(dataset_id: str, studio: StudioDep, language: LanguageDep) -> DatasetRead:
    """Read one data set."""
    return dataset_read(dataset_service.get_dataset(studio, dataset_id), language)


@router.delete("/{dataset_id}", status_code=204, responses=problems(404, 409))
def delete_dataset(dataset_id: str, studio: StudioDep) -> None:
    """Delete a data set that no unfinished job uses. Ended jobs keep their own copy of its rows."""
    dataset_service.delete_dataset(studio, dataset_id)


@router.put("/{dataset_id}/mapping", responses=NOT_FOUND)
def set_mapping(dataset_id: str, mapping: Mapping, studio: StudioDep, language: LanguageDep) -> DatasetRead:
    """Say which column plays which part, and read the rows again."""
    return dataset_read(dataset_service.set_mapping(studio, dataset_id, mapping), language)


@router.post("/{dataset_id}/mapping/preview", responses=NOT_FOUND)
def preview_mapping(
    dataset_id: str,
    mapping: Mapping,
    studio: StudioDep,
    language: LanguageDep,
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
) -> RowPage:
    """Show the first rows as another mapping would read them; nothing is changed."""
    rows, total = dataset_service.preview_mapping(studio, dataset_id, mapping, limit)
    return RowPage(rows=[row_read(row, language) for row in rows], total=total, offset=0)


@router.get("/{dataset_id}/rows", responses=NOT_FOUND)
def list_rows(
    dataset_id: str,
    studio: StudioDep,
    language: LanguageDep,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
) -> RowPage:
    """Show rows as imported and as training examples."""
    rows, total = dataset_service.list_rows(studio, dataset_id, offset, limit)
    return RowPage(rows=[row_read(row, language) for row in rows], total=total, offset=offset)


@router.get("/{dataset_id}/tokens", responses=problems(404, 409))
def get_tokens(
    dataset_id: str,
    studio: StudioDep,
    row: Annotated[int, Query(ge=1)],
    *,
    model: Annotated[str, Query(min_length=1, max_length=300)],
    max_length: MaxLength = None,
    method: Method | None = None,
    rejected: bool = False,
) -> TokensRead:
    """Show one row as the model reads it: each token, whether it is trained, and where the cut falls."""
    shown = token_service.get_tokens(studio, dataset_id, row, model, max_length=max_length, method=method, rejected=rejected)
    return tokens_read(row, shown)


@router.get("/{dataset_id}/token-report", responses=problems(404, 409, 503))
def get_token_report(
    dataset_id: str,
    studio: StudioDep,
    language: LanguageDep,
    *,
    model: Annotated[str, Query(min_length=1, max_length=300)],
    max_length: MaxLength = None,
    long_rows: LongRows | None = None,
    method: Method | None = None,
) -> TokenReportRead:
    """Show how long all rows are under a model, what is cut, and whether they teach what they should."""
    report = token_service.get_token_report(studio, dataset_id, model, max_length=max_length, long_rows=long_rows, method=method)
    return token_report_read(report, language)
