"""Everything that is timed of one device, prepared: built, written to a folder, warm."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from app.contracts.calibration import ProductRate
from app.contracts.hardware import DeviceKind
from app.contracts.options import Dtype
from app.storage.job_dir import JobDir
from app.training.calibration import raw
from app.training.calibration.bench import Bench, build_benches, make_update
from app.training.calibration.estimate import Series, Timing, estimate_seconds, measure_sensitivity
from app.training.calibration.files import LARGE_MODEL, SMALL_MODEL, make_loading, make_saving
from app.training.calibration.pieces import Piece, warm_up
from app.training.calibration.variants import Size
from app.training.lanes import Lanes

Read = Callable[[Piece], float]
"""How a piece's times become one figure."""


@dataclass(frozen=True)
class Workload:
    """The pieces of one device."""

    kind: DeviceKind
    products: dict[tuple[Dtype, int, int, int], Piece]
    """By precision, rows, inputs and outputs."""
    copy: Piece
    launch: Piece
    load_small: Piece
    load_large: Piece
    large_bytes: int
    save: Piece
    update: Piece
    update_bytes: int
    benches: list[Bench]
    reference: Piece
    """Timed between all others."""

    def list_pieces(self) -> list[Piece]:
        """Return every piece but the reference."""
        forwards = [bench.forward for bench in self.benches if bench.forward is not None]
        around = [self.copy, self.launch, self.load_small, self.load_large, self.save, self.update]
        alone = [bench.alone for bench in self.benches if bench.alone is not None]
        return [*self.products.values(), *around, *(bench.step for bench in self.benches), *forwards, *alone]

    def rate_products(self, read: Read) -> list[ProductRate]:
        """Return the speed of each product."""
        return [
            ProductRate(
                dtype=dtype,
                rows=rows,
                inputs=inputs,
                outputs=outputs,
                gflops=raw.count_gflops(rows, inputs, outputs, read(piece)),
            )
            for (dtype, rows, inputs, outputs), piece in self.products.items()
        ]

    def measure_alone(self, read: Read) -> float:
        """Return a micro-batch's seconds with all threads to itself over those beside others; 1.0 where there are none."""
        ratios = [read(bench.alone) / read(bench.step) for bench in self.benches if bench.alone is not None]
        return statistics.geometric_mean(ratios) if ratios else 1.0

    def measure_bandwidth(self, read: Read) -> float:
        """Return the memory traffic of the copy, read plus written, in 1e9 bytes per second."""
        return 2e-9 * raw.COPY_BYTES[self.kind] / read(self.copy)


def find_rate(products: list[ProductRate], dtype: Dtype) -> float:
    """Return the median speed of the products in one precision."""
    return statistics.median(rate.gflops for rate in products if rate.dtype == dtype)


def prepare_workload(  # noqa: PLR0917
    folder: Path, size: Size, kind: DeviceKind, device: torch.device, dtypes: list[Dtype], lanes: Lanes
) -> Workload:
    """Build and warm everything up; model folders are written below `folder`. The first of `dtypes` is the usual one."""
    products = {
        (dtype, *sizes): raw.make_product(device, dtype, *sizes) for dtype in dtypes for sizes in raw.PRODUCT_SIZES[kind]
    }  # fmt: skip
    benches = build_benches(size, kind, device, dtypes, JobDir(folder / "job"), lanes)
    load_small, _ = make_loading(folder, size, SMALL_MODEL, device, dtypes[0])
    load_large, large_bytes = make_loading(folder, size, LARGE_MODEL, device, dtypes[0])
    save = make_saving(folder, device, dtypes[0])
    update, update_bytes = make_update(benches)
    for piece in (load_small, load_large, save):
        warm_up(piece, device)
    return Workload(
        kind=kind,
        products=products,
        copy=raw.make_copy(device, kind),
        launch=raw.make_launch(device),
        load_small=load_small,
        load_large=load_large,
        large_bytes=large_bytes,
        save=save,
        update=update,
        update_bytes=update_bytes,
        benches=benches,
        reference=raw.make_reference(device, kind, dtypes[0]),
    )


def read_times(pieces: Sequence[Piece], counted: Sequence[Series]) -> Read:
    """Return what tells a piece's seconds at the machine's usual speed, from its times in the series that count."""
    numbers = {series.number for series in counted}
    usual = statistics.median(value for series in counted for value in series.references)
    kept = {piece.name: [timing for timing in piece.times if timing.series in numbers] for piece in pieces}
    groups: dict[str, list[list[Timing]]] = {}
    for piece in pieces:
        groups.setdefault(piece.group, []).append(kept[piece.name])
    sensitivities = {group: measure_sensitivity(timings) for group, timings in groups.items()}
    return lambda piece: estimate_seconds(kept[piece.name], usual, sensitivities[piece.group])
