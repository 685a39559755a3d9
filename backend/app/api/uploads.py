"""Receive an upload piece by piece into `data/tmp`, within a quota; an upload that breaks off leaves nothing."""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from app.api.deps import StudioDep
from app.core.errors import Invalid, TooLarge
from app.core.units import format_bytes

NAME_LENGTH = 200
"""Longest title of a data set, in characters."""

UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "title": "UploadDataset",
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "CSV, JSON or JSONL."},
                        "name": {
                            "type": "string",
                            "maxLength": NAME_LENGTH,
                            "description": "A title.",
                        },
                    },
                }
            }
        },
    }
}
FILE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "title": "CreateFile",
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "JSON Lines, or any other form of rows."},
                        "purpose": {"type": "string", "enum": ["fine-tune"]},
                    },
                }
            }
        },
    }
}
"""The bodies in the OpenAPI document; FastAPI's own form handling would keep the file elsewhere and know no quota."""


@dataclass(frozen=True)
class ReceivedFile:
    """A file that lies in `data/tmp` until the request ends."""

    path: Path
    filename: str
    name: str | None
    purpose: str | None = None
    """What OpenAI's interface calls the use of a file."""
    expires: bool = False
    """Whether that interface was asked to delete the file one day (`expires_after[...]`)."""


class _Parser(MultiPartParser):
    """Starlette's parser with files in our own folder and a limit on their size."""

    def __init__(self, headers: Headers, stream: AsyncGenerator[bytes, None], folder: Path, max_bytes: int) -> None:
        super().__init__(headers, stream, max_files=1, max_fields=10, max_part_size=10_000)
        self._folder = folder
        self._max_bytes = max_bytes
        self._received = 0

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        part = self._current_part
        if part.file is not None:
            part.file.file.close()
            file = NamedTemporaryFile(dir=self._folder, prefix="upload-")  # noqa: SIM115  # deleted when the form is closed
            self._files_to_close_on_error.append(file)  # type: ignore[arg-type]
            part.file = UploadFile(file=file, size=0, filename=part.file.filename, headers=part.file.headers)  # type: ignore[arg-type]

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._received += end - start
        if self._received > self._max_bytes:
            raise TooLarge("upload", limit=format_bytes(self._max_bytes))
        super().on_part_data(data, start, end)


async def receive_file(request: Request, studio: StudioDep) -> AsyncIterator[ReceivedFile]:
    """Read the form of an upload. Raise Invalid for another kind of body, TooLarge beyond the quota."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise Invalid("no_file")
    settings = studio.settings
    parser = _Parser(request.headers, request.stream(), settings.data_dir / "tmp", settings.max_upload_bytes)
    try:
        form = await parser.parse()
    except MultiPartException as problem:
        raise Invalid("form", reason=problem.message) from None
    try:
        file, name, purpose = form.get("file"), form.get("name"), form.get("purpose")
        if not isinstance(file, UploadFile) or not file.filename:
            raise Invalid("no_file")
        if isinstance(name, UploadFile) or len(name or "") > NAME_LENGTH:
            raise Invalid("name_length", limit=NAME_LENGTH)
        file.file.flush()
        yield ReceivedFile(
            path=Path(str(file.file.name)),
            filename=file.filename,
            name=name or None,
            purpose=purpose if isinstance(purpose, str) else None,
            expires=any(field.startswith("expires_after") for field in form),
        )
    finally:
        await form.close()


UploadDep = Annotated[ReceivedFile, Depends(receive_file, scope="function")]
