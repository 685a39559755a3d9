"""Liveness and the machine."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.api.deps import LanguageDep, StudioDep
from app.api.responses import problems
from app.api.schemas.system import CalibrationRead, HardwareRead, Health
from app.api.wording import calibration_read, hardware_read
from app.services import calibration_service, system_service

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
    return hardware_read(studio, language)


@router.post("/hardware/calibrate", responses=problems(404, 409, 507))
def calibrate(
    studio: StudioDep, language: LanguageDep, device_id: Annotated[str | None, Query(max_length=20)] = None
) -> CalibrationRead:
    """Measure a device (the best one) for about half a minute, once more if it is restless.

    Plans count with the result until driver or engine change.
    """
    return calibration_read(calibration_service.calibrate(studio, device_id), language)
