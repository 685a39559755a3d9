"""/v1/files: data sets, and the curves of jobs, as OpenAI's clients speak of files."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse, Response

from app.api.deps import SessionDep, StudioDep
from app.api.openai_wording import RESULTS, file_read, find_start, page, results_file, results_table
from app.api.responses import OPENAI_PROBLEMS
from app.api.schemas.openai_tuning import FileDeleted, FileRead, Page
from app.api.uploads import FILE_BODY, UploadDep
from app.contracts.status import JobStatus
from app.core.errors import Invalid, NotFound
from app.services import dataset_service, job_service
from app.services.openai_names import list_tuned
from app.storage.tables import JobRow

router = APIRouter(prefix="/v1/files", tags=["OpenAI-compatible"], responses=OPENAI_PROBLEMS)


@router.post("", openapi_extra=FILE_BODY)
def create_file(studio: StudioDep, upload: UploadDep) -> FileRead:
    """Take a file of rows to learn: a data set that the page shows too, with the rows that cannot be used."""
    if upload.purpose != "fine-tune":
        raise Invalid("file_purpose", purpose=upload.purpose or "")
    if upload.expires:
        raise Invalid("file_expires", [{"field": "expires_after"}])
    name = upload.filename.rpartition("/")[2].rpartition(".")[0] or upload.filename
    info = dataset_service.import_upload(studio, upload.path, filename=upload.filename, name=name[:200])
    return file_read(info)


@router.get("")
def list_files(  # noqa: PLR0917  # FastAPI calls it by name
    studio: StudioDep,
    session: SessionDep,
    purpose: Annotated[str | None, Query(max_length=40)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    after: Annotated[str | None, Query(max_length=200)] = None,
    order: Literal["asc", "desc"] = "desc",
) -> Page[FileRead]:
    """List files of rows, newest first unless `order` is `asc`; with `purpose=fine-tune-results` the curves of jobs instead."""
    found = [file_read(info) for info in dataset_service.list_datasets(studio, session)] if purpose in (None, "fine-tune") else []
    if purpose == "fine-tune-results":  # each is made from the job's events: too slow to be in every list
        found = [results_file(session, row) for row in list_tuned(session)]
    found.sort(key=lambda file: (file.created_at, file.id), reverse=order == "desc")
    ids = [file.id for file in found]
    start = find_start(ids, after)
    return page(found[start:], ids[start:], limit)


@router.get("/{file_id}")
def get_file(file_id: str, studio: StudioDep, session: SessionDep) -> FileRead:
    """Read one file's description."""
    if file_id.startswith(RESULTS):
        return results_file(session, _get_finished(session, file_id))
    return file_read(dataset_service.get_dataset(studio, file_id))


@router.get("/{file_id}/content", response_class=Response)
def get_file_content(file_id: str, studio: StudioDep, session: SessionDep) -> Response:
    """Return the file as it was given; a job's curve as CSV in base64, as OpenAI does."""
    if file_id.startswith(RESULTS):
        table = results_table(session, _get_finished(session, file_id).job_id)
        return Response(table, media_type="application/octet-stream")
    info = dataset_service.get_dataset(studio, file_id)
    path = studio.dataset_dir(info.dataset_id).source_file(info.format)
    return FileResponse(path, media_type="application/octet-stream", filename=f"{info.dataset_id}.{info.format}")


@router.delete("/{file_id}")
def delete_file(file_id: str, studio: StudioDep) -> FileDeleted:
    """Delete a data set. Jobs keep their own copy of its rows; a job's curve goes with the job."""
    if file_id.startswith(RESULTS):
        raise Invalid("results_stay")
    dataset_service.delete_dataset(studio, file_id)
    return FileDeleted(id=file_id)


def _get_finished(session: SessionDep, file_id: str) -> JobRow:
    row = job_service.get_job(session, file_id.removeprefix(RESULTS))
    if row.status != JobStatus.SUCCEEDED:
        raise NotFound("file", file_id=file_id)
    return row
