"""Exports as the API answers them, with sentences in the reader's language."""

from app.api.schemas.errors import ErrorContent
from app.api.schemas.exports import (
    AgreementRead,
    CertificateRead,
    ExportFileRead,
    ExportList,
    ExportRead,
    OfferRead,
    PackedRead,
    PushRead,
)
from app.api.wording import error_content, notice_read
from app.contracts.export import MEASURED, MEASURED_ON, Certificate, ExportState
from app.core.messages import Language
from app.services.export_offers import Offer
from app.services.export_service import Exported
from app.services.pushes import Push, find_push


def export_read(exported: Exported, language: Language) -> ExportRead:
    """Return one export."""
    state = exported.state
    return ExportRead(
        format=state.format,
        status=state.status,
        phase=state.phase,
        created_at=state.created_at,
        finished_at=state.finished_at,
        error=_error(state, language),
        certificate=None if state.certificate is None else certificate_read(state.certificate, language),
        files=[ExportFileRead(name=name, size_bytes=size) for name, size in exported.files.items()],
        path=str(exported.folder),
        pushed_to=state.pushed_to,
        push=push_read(find_push(exported.folder.parents[1], state.format), language),
    )


def push_read(push: Push | None, language: Language) -> PushRead | None:
    """Return how a push stands, if there is one."""
    if push is None:
        return None
    return PushRead(repo_id=push.repo_id, state=push.state, error=push.problem and error_content(push.problem, language))


def export_list(found: list[Exported], offers: list[Offer], language: Language) -> ExportList:
    """Return all exports of a job and what can be asked for."""
    return ExportList(
        exports=[export_read(exported, language) for exported in found],
        offers=[offer_read(offer, language) for offer in offers],
    )


def offer_read(offer: Offer, language: Language) -> OfferRead:
    """Return a format with whether it is possible."""
    reason = None if offer.problem is None else notice_read(offer.problem.key, offer.problem.params, language)
    found = MEASURED.get(offer.format)
    measured = None if found is None else PackedRead(model_name=MEASURED_ON, **found.model_dump())
    return OfferRead(format=offer.format, possible=offer.problem is None, reason=reason, measured=measured)


def certificate_read(certificate: Certificate, language: Language) -> CertificateRead:
    """Return a certificate without its hashes, which are in the file itself."""
    return CertificateRead(
        **certificate.model_dump(include=set(CertificateRead.model_fields) - {"agreements", "notices", "prompts"}),
        agreements=[AgreementRead(**found.model_dump(), within_bounds=found.passed) for found in certificate.agreements],
        prompts=certificate.prompts,
        notices=[notice_read(notice.key, notice.params, language) for notice in certificate.notices],
    )


def _error(state: ExportState, language: Language) -> ErrorContent | None:
    if state.error_key is None:
        return None
    notice = notice_read(state.error_key, state.error_params, language)
    return ErrorContent(code=notice.code, message=notice.message, hint=notice.hint)
