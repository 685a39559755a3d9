"""Pieces that read and write model folders as a job does."""

from pathlib import Path
from typing import Any

import torch

from app.contracts.hardware import DeviceKind
from app.contracts.options import Dtype
from app.training.calibration.pieces import Piece
from app.training.calibration.random_weights import build_filled
from app.training.calibration.variants import MODELS, Size, make_config

SMALL_MODEL, LARGE_MODEL = "small", "wide"
"""Of MODELS: what loading takes beside its bytes is seen on the one, its bytes per second on the other."""


def make_loading(folder: Path, size: Size, name: str, device: torch.device, dtype: Dtype) -> tuple[Piece, int]:
    """Write a model below `folder`; return the piece that makes it ready for training, and the bytes of its weights.

    On a processor loading only maps the file: the weights are read where the layers are put beside each other.
    """
    from transformers import AutoModelForCausalLM

    from app.training import selftest
    from app.training.assembly import assemble
    from app.training.loading import load_model

    config = make_config(MODELS[size][name])
    model = build_filled(lambda: AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), trust_remote_code=False))
    model.save_pretrained(folder / name)
    count = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    job = selftest.write_job(folder / f"job-{name}", folder / name, str(device)).read_job().model_copy(update={"dtype": dtype})
    kind: DeviceKind = "cuda" if device.type == "cuda" else "cpu"
    return Piece(f"load {name}", "files", lambda: assemble(load_model(job, device), job.lora, kind=kind)), count


def make_saving(folder: Path, device: torch.device, dtype: Dtype) -> Piece:
    """Return the piece that saves an adapter of the model that `make_loading` wrote as LARGE_MODEL."""
    from app.training import selftest
    from app.training.loading import load_model
    from app.training.lora import attach, save_adapter

    job = selftest.write_job(folder / "job-saved", folder / LARGE_MODEL, str(device)).read_job()
    job = job.model_copy(update={"dtype": dtype})
    loaded: Any = load_model(job, device)
    attach(loaded, job.lora)
    return Piece("save", "files", lambda: save_adapter(loaded, folder / "adapter", base_model_id="calibration", lora=job.lora))
