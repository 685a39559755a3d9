"""NVIDIA cards through NVML. No card, no driver or no permission is a normal answer, never an error."""

import os
from dataclasses import dataclass, field
from typing import Any

import pynvml

from app.contracts.hardware import Device

BF16_CAPABILITY = (8, 0)
"""From Ampere on. torch says yes to older cards as well, but emulates there."""


@dataclass(frozen=True)
class Cards:
    """What NVML found."""

    devices: list[Device] = field(default_factory=list)
    driver_version: str | None = None
    hidden: bool = False
    """Cards exist, but CUDA_VISIBLE_DEVICES shows none of them."""


def find_cards() -> Cards:
    """Return the cards that CUDA will show, numbered as CUDA does with CUDA_DEVICE_ORDER=PCI_BUS_ID."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return Cards()
    try:
        driver = str(pynvml.nvmlSystemGetDriverVersion())
        handles = _leaves([pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())])
        uuids = [str(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
        visible = select_visible(uuids, os.environ.get("CUDA_VISIBLE_DEVICES"))
        devices = [_describe(handles[index], number) for number, index in enumerate(visible)]
        return Cards(devices, driver, hidden=bool(handles) and not devices)
    except pynvml.NVMLError:
        # The library is there, but the driver below it is not the same version, or a card has fallen off the bus.
        return Cards()
    finally:
        pynvml.nvmlShutdown()


def select_visible(uuids: list[str], variable: str | None) -> list[int]:
    """Return which cards CUDA_VISIBLE_DEVICES shows, in its order. CUDA stops at the first entry that it does not know."""
    if variable is None:
        return list(range(len(uuids)))
    chosen: list[int] = []
    for entry in (part.strip() for part in variable.split(",")):
        if entry.isdigit() and int(entry) < len(uuids):
            index = int(entry)
        else:
            matches = [i for i, uuid in enumerate(uuids) if entry and uuid.startswith(entry)]
            if len(matches) != 1:
                break
            index = matches[0]
        if index in chosen:
            break
        chosen.append(index)
    return chosen


def _leaves(handles: list[Any]) -> list[Any]:
    """Replace a card that is split by MIG by its first instance: CUDA shows a process only one."""
    leaves: list[Any] = []
    for handle in handles:
        try:
            split = pynvml.nvmlDeviceGetMigMode(handle)[0] == pynvml.NVML_DEVICE_MIG_ENABLE
            leaves.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, 0) if split else handle)
        except pynvml.NVMLError:
            leaves.append(handle)
    return leaves


def _describe(handle: Any, number: int) -> Device:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    try:
        parent = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
    except pynvml.NVMLError:
        parent = handle
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(parent)
    return Device(
        id=f"cuda:{number}",
        kind="cuda",
        name=str(pynvml.nvmlDeviceGetName(handle)),
        memory_total_bytes=int(memory.total),
        memory_free_bytes=int(memory.free),
        compute_capability=(int(major), int(minor)),
        bf16=(major, minor) >= BF16_CAPABILITY,
    )
