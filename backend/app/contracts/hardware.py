"""What machine this is. Sizes in bytes, measured when probed."""

from typing import Literal

from app.contracts.frozen import Frozen

DeviceKind = Literal["cuda", "cpu"]


class Device(Frozen):
    """One place where training can run: an NVIDIA GPU, or the processor."""

    id: str
    """`cuda:0`, `cuda:1`, ... or `cpu`."""
    kind: DeviceKind
    name: str
    memory_total_bytes: int
    """GPU memory; for the processor the memory that this process may use (cgroup limit counted)."""
    memory_free_bytes: int
    """Free now; for the processor what can be had without swapping."""
    compute_capability: tuple[int, int] | None = None
    bf16: bool
    """Whether bfloat16 matrix products are native (GPU: compute capability >= 8.0; CPU: AVX-512 BF16 or AMX)."""
    fused_attention: bool = False
    """Whether the processor has vectors of 512 bits, so that attention in bfloat16 is one kernel there."""
    cores: int | None = None
    """Physical cores usable, for the processor."""


class Hardware(Frozen):
    """The machine: devices (the best first; the processor always last), memory, disk."""

    devices: list[Device]
    memory_total_bytes: int
    memory_available_bytes: int
    disk_free_bytes: int
    cpu_name: str
    driver_version: str | None = None
    unused_reason: str | None = None
    """Message key of why a graphics card that is present is not used: `gpu_unused.no_driver`, `gpu_unused.cpu_build`, ..."""

    @property
    def best(self) -> Device:
        """The device that jobs use."""
        return self.devices[0]
