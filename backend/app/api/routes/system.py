"""Liveness and the machine."""

from fastapi import APIRouter

from app.api.deps import LanguageDep, StudioDep
from app.api.schemas.system import HardwareRead, Health
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
def get_hardware(studio: StudioDep) -> HardwareRead:
    """List devices, memory and disk; measured at most a few seconds ago."""
    return HardwareRead.model_validate(studio.hardware().model_dump())
