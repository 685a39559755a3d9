"""What `affinage doctor` looks at before it trains: installation, data folder, machine, models, page."""

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from app.api.page import page_folder
from app.cli.finding import Finding
from app.cli.terminal import Terminal
from app.contracts.hardware import Hardware
from app.core.errors import AffinageError
from app.core.messages import localise
from app.core.settings import Settings
from app.core.units import GIB, format_bytes
from app.hardware.probe import probe
from app.services.exposure import find_other_people, needs_credential
from app.storage.db import sqlite_is_fixed, sqlite_module
from app.storage.hub import hub_endpoint, list_files
from app.storage.model_store import EMBEDDED_ID, ModelStore
from app.storage.planner_dir import PlannerDir

LEAST_PYTHON = (3, 11)
LEAST_DISK_BYTES = 2 * GIB
"""The embedded model, a few adapters and a database fit into it; larger models say themselves what they need."""
LEAST_MEMORY_BYTES = 2 * GIB
"""What a job on the embedded model takes with small batches."""
HUB_PROBE = "gpt2"
ENGINE_PROBE = (
    "import json, torch; from app.training.native.build import load_library;"
    " print(json.dumps([torch.__version__, torch.cuda.is_available(),"
    " [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())], load_library() is not None]))"
)


def examine(settings: Settings, terminal: Terminal) -> Iterator[Finding]:
    """Yield one finding per link, in the order in which a job needs them."""
    yield check_python(terminal)
    yield check_packages(terminal)
    yield check_engine(terminal)
    yield check_data_dir(settings.data_dir, terminal)
    yield check_sqlite(terminal)
    hardware = probe(settings.data_dir)
    enough_disk = hardware.disk_free_bytes >= LEAST_DISK_BYTES
    yield Finding(
        "disk",
        "ok" if enough_disk else "failed",
        terminal.say("doctor_free", size=format_bytes(hardware.disk_free_bytes)),
        "" if enough_disk else terminal.say("doctor_disk_hint", size=format_bytes(LEAST_DISK_BYTES)),
    )
    enough_memory = hardware.memory_available_bytes >= LEAST_MEMORY_BYTES
    yield Finding(
        "memory",
        "ok" if enough_memory else "warning",
        terminal.say("doctor_free", size=format_bytes(hardware.memory_available_bytes)),
        "" if enough_memory else terminal.say("doctor_memory_hint"),
    )
    best = hardware.best
    detail = f"{best.name}, {format_bytes(best.memory_total_bytes)}, {'bf16' if best.bf16 else 'fp32'}"
    if hardware.unused_reason is None:
        yield Finding("device", "ok", detail)
    else:
        reason, hint = localise(hardware.unused_reason, terminal.language)
        yield Finding("device", "warning", f"{detail}. {reason}", hint)
    yield check_calibration(settings, hardware, terminal)
    yield check_embedded_model(settings, terminal)
    yield check_hub(terminal)
    yield check_page(terminal)
    yield check_accounts(settings, terminal)


def check_python(terminal: Terminal) -> Finding:
    """The interpreter is new enough."""
    fine = sys.version_info[:2] >= LEAST_PYTHON
    return Finding(
        "python",
        "ok" if fine else "failed",
        f"{platform.python_version()} ({sys.executable})",
        "" if fine else terminal.say("doctor_python_hint"),
    )


def check_packages(terminal: Terminal) -> Finding:
    """Every package that the distribution names, without extras and with `train`, is there in the pinned version."""
    wrong: list[str] = []
    count = 0
    for requirement in importlib.metadata.requires("affinage") or []:
        if "extra ==" in requirement and "'train'" not in requirement.replace('"', "'"):
            continue
        if "sys_platform" in requirement and f"'{sys.platform}'" not in requirement.replace('"', "'"):
            continue
        name, _, wanted = requirement.split(";")[0].strip().partition("==")
        count += 1
        try:
            installed = importlib.metadata.version(re.sub(r"\[.*\]", "", name)).split("+")[0]
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{name}: {terminal.say('doctor_missing')}")
            continue
        if wanted and installed != wanted:
            wrong.append(f"{name}: {installed}, {terminal.say('doctor_wanted', version=wanted)}")
    if not wrong:
        return Finding("packages", "ok", terminal.say("doctor_packages_fine", count=count))
    missing = any(terminal.say("doctor_missing") in text for text in wrong)
    return Finding("packages", "failed" if missing else "warning", "; ".join(wrong), terminal.say("doctor_setup_hint"))


def check_engine(terminal: Terminal) -> Finding:
    """Torch starts, in a process of its own: this one never imports it."""
    probe_run = subprocess.run([sys.executable, "-c", ENGINE_PROBE], capture_output=True, text=True, check=False)
    if probe_run.returncode:
        last = (probe_run.stderr.strip().splitlines() or [""])[-1]
        return Finding("engine", "failed", last, terminal.say("doctor_setup_hint"))
    version, cuda, cards, kernels = json.loads(probe_run.stdout.strip().splitlines()[-1])
    detail = f"torch {version}" + (f", CUDA: {', '.join(cards)}" if cuda else "")
    if kernels or cuda:
        return Finding("engine", "ok", detail)
    return Finding("engine", "warning", f"{detail}. {terminal.say('doctor_kernels')}", terminal.say("doctor_kernels_hint"))


def check_data_dir(data_dir: Path, terminal: Terminal) -> Finding:
    """A file can be written, hard-linked and renamed there: what jobs do with their rows and results."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=data_dir) as folder:
            file = Path(folder) / "file"
            file.write_bytes(b"affinage")
            os.link(file, Path(folder) / "link")
            file.rename(Path(folder) / "renamed")
    except OSError as error:
        return Finding("data_dir", "failed", f"{data_dir}: {error.strerror}", terminal.say("doctor_data_dir_hint"))
    return Finding("data_dir", "ok", str(data_dir))


def check_sqlite(terminal: Terminal) -> Finding:
    """The SQLite that will be used is free of the WAL-reset bug."""
    module = sqlite_module()
    fine = sqlite_is_fixed(tuple(module.sqlite_version_info))
    detail = f"{module.sqlite_version} ({module.__name__})"
    return Finding("sqlite", "ok" if fine else "warning", detail, "" if fine else terminal.say("doctor_sqlite_hint"))


def check_calibration(settings: Settings, hardware: Hardware, terminal: Terminal) -> Finding:
    """The speed of the best device was measured; nothing needs it, times are only better with it."""
    measured = PlannerDir(settings.data_dir / "planner").read_calibrations().find(hardware.best, hardware.driver_version)
    if measured is None:
        return Finding("calibration", "ok", terminal.say("doctor_not_measured"), terminal.say("doctor_calibrate_hint"))
    half, factor = measured.half_gflops or measured.full_gflops, measured.step_factor
    shown = {"half": f"{half:.0f}", "factor": f"{factor:.2f}" if factor is not None else "–"}
    return Finding("calibration", "ok", terminal.say("doctor_measured", date=measured.measured_at[:10], **shown))


def check_embedded_model(settings: Settings, terminal: Terminal) -> Finding:
    """The model that needs no network is here, or can be unpacked."""
    found = ModelStore.from_settings(settings).find(EMBEDDED_ID)
    if found is None:
        return Finding("embedded_model", "warning", terminal.say("doctor_missing"), terminal.say("doctor_embedded_hint"))
    state = "doctor_unpacked" if found.ready else "doctor_packed"
    return Finding("embedded_model", "ok", f"{found.display_name}, {terminal.say(state)}")


def check_hub(terminal: Terminal) -> Finding:
    """The hub answers. Not needed for the embedded model and for local folders."""
    try:
        list_files(HUB_PROBE)
    except AffinageError as error:
        message, hint = error.text(terminal.language)
        if error.code == "hub_unreachable":  # its sentence speaks of one model's weights
            message = terminal.say("doctor_unreachable", endpoint=hub_endpoint())
        return Finding("hub", "warning", message, hint)
    return Finding("hub", "ok", hub_endpoint())


def check_page(terminal: Terminal) -> Finding:
    """The built web page is there; without it `affinage serve` has only the API."""
    page = page_folder()
    if page is None:
        return Finding("page", "warning", terminal.say("doctor_missing"), terminal.say("doctor_page_hint"))
    return Finding("page", "ok", str(page))


def check_accounts(settings: Settings, terminal: Terminal) -> Finding:
    """Nobody else can use an open loopback port of this machine."""
    others = [] if needs_credential(settings) else find_other_people()
    if not others:
        return Finding("accounts", "ok", terminal.say("doctor_accounts_closed"))
    return Finding("accounts", "warning", terminal.say("other_people", names=", ".join(others[:5])))
