"""Choose the build of torch that fits this machine: CUDA where an NVIDIA card can use it, else the processor build."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

TORCH_INDEX = "https://download.pytorch.org/whl"
# (build, least CUDA version of the driver, least compute capability), best first.
# CUDA 13 dropped Maxwell, Pascal and Volta; such cards stay on 12.6 (CUDA 13.0 release notes).
CUDA_BUILDS = (("cu130", (13, 0), (7, 5)), ("cu126", (12, 6), (5, 0)))


@dataclass(frozen=True)
class TorchBuild:
    """What to ask pip for, and why."""

    name: str
    """`cu130`, `cu126`, `cpu`, or "" for whatever the configured package index has."""
    reason: str

    def pip_arguments(self, version: str) -> list[str]:
        """Return the requirement (and its index) for torch `version`."""
        if not self.name:
            return [f"torch=={version}"]
        return [f"torch=={version}+{self.name}", "--extra-index-url", f"{TORCH_INDEX}/{self.name}"]


def parse_version(text: str) -> tuple[int, int]:
    """Return (major, minor) of a text such as "13.0"; (0, 0) if it is none."""
    try:
        major, minor = text.strip().split(".")[:2]
        return int(major), int(minor)
    except ValueError:
        return 0, 0


def query_nvidia_smi(*arguments: str) -> str:
    """Return what nvidia-smi prints; "" when there is no working driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def driver_cuda_version(smi_text: str) -> tuple[int, int]:
    """Return the newest CUDA version that the driver supports, from the table that plain `nvidia-smi` prints."""
    found = re.search(r"CUDA Version:\s*(\d+\.\d+)", smi_text)
    return parse_version(found.group(1)) if found else (0, 0)


def choose_cuda(driver: tuple[int, int], capabilities: list[tuple[int, int]]) -> TorchBuild | None:
    """Return the best CUDA build for the weakest card, or None when the driver or every card is too old."""
    weakest = min(capabilities, default=(0, 0))
    for name, least_driver, least_capability in CUDA_BUILDS:
        if driver >= least_driver and weakest >= least_capability:
            return TorchBuild(name, f"driver supports CUDA {driver[0]}.{driver[1]}, compute capability {weakest[0]}.{weakest[1]}")
    return None


def cpu_build() -> TorchBuild:
    """Return the processor build.

    On Linux the plain package brings gigabytes of CUDA libraries, so the processor index is asked first; where it does not
    answer (a mirror, an offline wheel folder) whatever pip is configured with decides. Other systems only have one build.
    """
    if platform.system() != "Linux":
        return TorchBuild("", "this system has one build")
    try:
        with urllib.request.urlopen(f"{TORCH_INDEX}/cpu/torch/", timeout=2):
            return TorchBuild("cpu", "processor build")
    except (urllib.error.URLError, OSError):
        return TorchBuild("", "build of the configured package index")


def detect() -> TorchBuild:
    """Look for an NVIDIA card that torch can use, and say why when one is left aside.

    AFFINAGE_TORCH names a build instead (`cpu`, `cu130`, ...): an image is built on machines without the card.
    """
    if named := os.environ.get("AFFINAGE_TORCH"):
        return TorchBuild(named, "AFFINAGE_TORCH")
    table = query_nvidia_smi()
    if not table:
        return cpu_build()
    capabilities = [
        parse_version(line) for line in query_nvidia_smi("--query-gpu=compute_cap", "--format=csv,noheader").splitlines()
    ]
    driver = driver_cuda_version(table)
    cuda = choose_cuda(driver, capabilities)
    if cuda is not None:
        return cuda
    fallback = cpu_build()
    return TorchBuild(
        fallback.name, f"an NVIDIA card is here, but its driver (CUDA {driver[0]}.{driver[1]}) or the card is too old for torch"
    )


def fingerprint() -> str:
    """Return a text that changes when a card or a driver appears; cheap, because `make setup` reads it each time."""
    driver = Path("/proc/driver/nvidia/version")
    try:
        found = driver.read_text()
    except OSError:
        found = shutil.which("nvidia-smi") or "no card"
    return f"{os.environ.get('AFFINAGE_TORCH', '')} {found}"
