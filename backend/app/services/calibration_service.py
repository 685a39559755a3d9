"""Measure how fast a device of this machine trains, in a process of its own, and remember it."""

import subprocess
import sys

from pydantic import ValidationError

from app.contracts.calibration import Calibration
from app.contracts.plan import Notice
from app.core.errors import AffinageError, Conflict
from app.jobs.executors.environment import trainer_environment
from app.planner.calibrated import complete
from app.planner.gpus import rate_device
from app.services.run_plan import get_device
from app.services.studio import Studio
from app.storage.repositories import Jobs

COMMAND = (sys.executable, "-m", "app.training.calibration")
MOST_SECONDS = 240.0
"""A measurement takes half a minute (26 s on two cores), twice that on a restless machine; under load its rounds take longer."""
BUSY_OTHERS = 0.15
"""Share of the processor from which on other programs are named as what disturbed."""


def find_calibration(studio: Studio) -> Calibration | None:
    """Return what is known about the best device, unless driver or engine have changed since."""
    hardware = studio.hardware()
    return studio.planner_dir.read_calibrations().find(hardware.best, hardware.driver_version)


def calibrate(studio: Studio, device_id: str | None = None) -> Calibration:
    """Measure a device, the best one by default, and keep the result.

    A job that is queued meanwhile waits for the end. Raise NotFound for an unknown device, Conflict while a training or another
    measurement uses the machine.
    """
    device = get_device(studio.hardware(), device_id)
    with studio.planner_dir.measuring():
        with studio.database.reading() as session:
            if Jobs(session).active():
                raise Conflict("training_runs")
        studio.release_device(device.id)
        measured = complete(_measure(studio, device.id), rate_device(device))
        studio.planner_dir.write_calibration(measured)
    return measured


def find_notice(calibration: Calibration) -> Notice | None:
    """Return what a person should know about a measurement, None where the machine was calm."""
    if not calibration.restless:
        return None
    percent = {"percent": round(100 * calibration.others_share)}
    return (
        Notice(key="restless.others", params=percent) if calibration.others_share > BUSY_OTHERS else Notice(key="restless.swings")
    )


def _measure(studio: Studio, device_id: str) -> Calibration:
    log_file = studio.settings.data_dir / "logs" / "calibration.log"
    with log_file.open("ab") as log:
        try:
            done = subprocess.run(
                [*COMMAND, "--device", device_id],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                timeout=MOST_SECONDS,
                check=True,
                env=trainer_environment(),
            )
            return Calibration.model_validate_json(done.stdout.splitlines()[-1])
        except (subprocess.SubprocessError, ValidationError, IndexError) as problem:
            raise AffinageError("calibration", log="logs/calibration.log") from problem
