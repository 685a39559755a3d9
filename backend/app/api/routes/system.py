"""Liveness and the machine."""

from fastapi import APIRouter

from app.api.deps import LanguageDep, StudioDep
from app.api.schemas.system import HardwareRead, Health
from app.api.wording import notice_read
from app.services import system_service

router = APIRouter(prefix="/api", tags=["system"])


@router.get("/health")
def get_health(language: LanguageDep) -> Health:
    """Say that the server lives, and which versions it runs."""
    versions = system_service.versions()
    return Health(
        status="ok",
        version=versions["affinage"],
        python=versions["python"],
        sqlite=versions["sqlite"],
        engine=versions.get("torch"),
        language=language,
    )


@router.get("/hardware")
def get_hardware(studio: StudioDep, language: LanguageDep) -> HardwareRead:
    """List devices, memory and disk; measured at most a few seconds ago."""
    hardware = studio.hardware()
    reason = hardware.unused_reason and notice_read(hardware.unused_reason, {}, language).message
    return HardwareRead.model_validate(hardware.model_dump() | {"unused_reason": reason})
