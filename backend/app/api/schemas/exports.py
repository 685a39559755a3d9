"""What the export routes take and answer."""

from typing import Literal

from pydantic import BaseModel, Field

from app.api.schemas.errors import ErrorContent
from app.api.schemas.plans import NoticeRead
from app.contracts.export import Agreement, ExportFormat, ExportPhase, ExportStatus, PackingCost, PromptCheck


class StartExportRequest(BaseModel):
    """Body of POST /api/jobs/{id}/exports."""

    format: ExportFormat


class AgreementRead(Agreement):
    """How one engine's answers compare, and whether that is enough."""

    within_bounds: bool


class CertificateRead(BaseModel):
    """The parity certificate, with sentences in the reader's language."""

    passed: bool
    rehearsal: bool
    rows: int
    row_source: str
    reference: str
    reference_loss: float
    agreements: list[AgreementRead]
    prompts: PromptCheck | None
    notices: list[NoticeRead]
    size_bytes: int
    seconds: float


class PushRequest(BaseModel):
    """Body of POST /api/jobs/{id}/exports/{format}/push."""

    repo_id: str = Field(min_length=3, max_length=200)
    """`owner/name` on the hub of HF_ENDPOINT, written with HF_TOKEN."""
    private: bool = True


class PushRead(BaseModel):
    """An export on its way to a hub."""

    repo_id: str
    state: Literal["running", "done", "failed"]
    error: ErrorContent | None


class ExportFileRead(BaseModel):
    """One file, to be had below `/files/`."""

    name: str
    size_bytes: int


class ExportRead(BaseModel):
    """One export of a job."""

    format: ExportFormat
    status: ExportStatus
    phase: ExportPhase | None
    created_at: str
    finished_at: str | None
    error: ErrorContent | None
    certificate: CertificateRead | None
    files: list[ExportFileRead]
    path: str
    """Folder on the server's disk."""
    pushed_to: str | None
    push: PushRead | None
    """The latest push since this server started."""


class PackedRead(PackingCost):
    """What packing cost a model that was measured."""

    model_name: str


class OfferRead(BaseModel):
    """A format that can be asked for, or why not."""

    format: ExportFormat
    possible: bool
    reason: NoticeRead | None
    measured: PackedRead | None
    """None where nothing is lost but in the last digits."""


class OfferList(BaseModel):
    """What a model can be written as."""

    offers: list[OfferRead]


class ExportList(BaseModel):
    """What was exported and what can be."""

    exports: list[ExportRead]
    offers: list[OfferRead]
