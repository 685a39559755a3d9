"""What a card loses to the CUDA context, measured."""

import os

import torch


def measure_context(device: torch.device) -> int | None:
    """Return the bytes that a card loses to the CUDA context and its libraries; None for the processor."""
    if device.type != "cuda":
        return None
    x = torch.ones(256, 256, device=device)
    (x @ x).sum().item()
    free, total = torch.cuda.mem_get_info(device)
    # Others may hold memory of the same card: what this process holds is asked from the driver where it tells.
    own = _find_own_bytes(device)
    used = total - free if own is None else own
    return max(0, used - torch.cuda.memory_reserved(device))


def _find_own_bytes(device: torch.device) -> int | None:
    """Return the bytes of the card that the driver counts for this process; None where it does not say (containers)."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
            if process.pid == os.getpid() and process.usedGpuMemory:
                return int(process.usedGpuMemory)
    except (pynvml.NVMLError, AttributeError):
        return None
    return None
