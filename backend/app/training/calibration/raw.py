"""Pieces without a model: matrix products of sizes that models have, a copy, a small operation, and the reference."""

import torch

from app.contracts.hardware import DeviceKind
from app.contracts.options import Dtype
from app.training.calibration.pieces import Piece, settle_calls

# rows, inputs, outputs: the tokens of a small and a large micro-batch through the layers of small and of large models.
PRODUCT_SIZES: dict[DeviceKind, tuple[tuple[int, int, int], ...]] = {
    "cpu": ((128, 768, 3072), (512, 576, 1536), (512, 2048, 2048)),
    "cuda": ((512, 1024, 4096), (2048, 2048, 8192), (4096, 4096, 4096)),
}
COPY_BYTES: dict[DeviceKind, int] = {"cpu": 96 << 20, "cuda": 512 << 20}
"""Far beyond the caches, small against any memory."""
SMALL_OPERATIONS = 1000


def make_product(device: torch.device, dtype: Dtype, rows: int, inputs: int, outputs: int) -> Piece:
    """Return the product of (rows, inputs) and (inputs, outputs)."""
    left = torch.full((rows, inputs), 0.5, device=device, dtype=getattr(torch, dtype))
    right = torch.full((outputs, inputs), 0.5, device=device, dtype=left.dtype)
    result = torch.empty((rows, outputs), device=device, dtype=left.dtype)
    piece = Piece(f"product {dtype} {rows}x{inputs}x{outputs}", f"product {dtype}", lambda: torch.mm(left, right.t(), out=result))
    return settle_calls(piece, device)


def count_gflops(rows: int, inputs: int, outputs: int, seconds: float) -> float:
    """Return the speed of a product in 1e9 operations per second."""
    return 2e-9 * rows * inputs * outputs / seconds


def make_copy(device: torch.device, kind: DeviceKind) -> Piece:
    """Return a copy of COPY_BYTES, each read and written."""
    source = torch.zeros(COPY_BYTES[kind], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return settle_calls(Piece("copy", "copy", lambda: target.copy_(source)), device)


def make_launch(device: torch.device) -> Piece:
    """Return SMALL_OPERATIONS operations on a few numbers that autograd records."""
    weight = torch.ones(16, device=device, requires_grad=True)
    x = torch.ones(16, device=device)

    def launch() -> None:
        for _ in range(SMALL_OPERATIONS):
            weight * x

    return settle_calls(Piece("launch", "launch", launch), device)


def make_reference(device: torch.device, kind: DeviceKind, dtype: Dtype) -> Piece:
    """Return what is timed before every other piece to see how fast the machine is at that moment: the largest product."""
    piece = make_product(device, dtype, *PRODUCT_SIZES[kind][-1])
    piece.name = "reference"
    return piece
