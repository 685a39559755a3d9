"""Which formats a model can be written in, judged by its config.json alone: before any weight is fetched or trained."""

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.contracts.export import EXPORT_FORMATS, GGUF_SHAPES, K_QUANTS, LLAMA_CPP_PACKAGE, ExportFormat
from app.contracts.plan import Notice
from app.core.errors import AffinageError, Unsupported
from app.services.run_plan import FoundModel, find_config
from app.services.studio import Studio


@dataclass(frozen=True)
class Offer:
    """A format, and why the model of a job cannot become it."""

    format: ExportFormat
    problem: Notice | None


def list_offers(config: dict[str, Any] | None) -> list[Offer]:
    """Return every format with what speaks against it for a model; nothing does where its configuration is not known."""
    found = []
    for export_format in EXPORT_FORMATS:
        problem = find_problem(config, export_format)
        found.append(Offer(export_format, None if problem is None else Notice(key=problem.key, params=problem.params)))
    return found


def find_problem(config: dict[str, Any] | None, export_format: ExportFormat) -> AffinageError | None:
    """Return why a model cannot become `export_format`; None when it can or nobody knows."""
    if export_format in K_QUANTS and importlib.util.find_spec(LLAMA_CPP_PACKAGE) is None:
        return Unsupported("k_quants")
    if config is None:
        return None
    shape = str(config.get("model_type"))
    if export_format.startswith("gguf") and shape not in GGUF_SHAPES:
        return Unsupported("gguf_shape", shape=shape, supported=", ".join(sorted(GGUF_SHAPES)))
    if export_format != "adapter" and config.get("quantization_config"):
        kind = str(config["quantization_config"].get("quant_method", "?"))
        return Unsupported("merge_packed", tensor="quantization_config", dtype=kind)
    return None


def check_exports(studio: Studio, model: FoundModel, exports: Sequence[ExportFormat]) -> None:
    """Raise Unsupported for the first format that the model cannot become: hours before it would be found out otherwise."""
    if not exports:
        return
    config = find_config(studio, model)
    for export_format in exports:
        problem = find_problem(config, export_format)
        if problem is not None:
            raise problem


def read_config(folder: Path) -> dict[str, Any] | None:
    """Return config.json of a model folder; None where there is none that can be read."""
    try:
        found: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found
