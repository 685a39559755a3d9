"""How many bytes AdamW's two moments take. The engine chooses by these rules, the planner counts by them."""

from app.contracts.hardware import DeviceKind
from app.contracts.options import Quantization

FULL_BYTES = 8.0
"""Of a parameter: both moments in fp32."""
EIGHT_BIT_BYTES = 2 * (1 + 4 / 256)
"""A byte each, and an fp32 number for each 256 of them (training/eight_bit.py)."""


def takes_eight_bits(device: DeviceKind, quantization: Quantization) -> bool:
    """Return whether the moments take eight bits: on a card whose memory is saved by weights in four bits.

    Beside weights in 16 bits they are a hundredth of them at rank 16, beside weights in four bits some hundredths.
    """
    return device == "cuda" and quantization == "nf4"


def count_moment_bytes(device: DeviceKind, quantization: Quantization, adapter_params: int) -> int:
    """Return the bytes of both moments of an adapter."""
    return round((EIGHT_BIT_BYTES if takes_eight_bits(device, quantization) else FULL_BYTES) * adapter_params)
