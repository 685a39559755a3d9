"""Load the trained model and an export with transformers: the export by transformers' own readers, without our code."""

import json
import time
from pathlib import Path

import psutil
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PretrainedConfig

from app.contracts.export import ExportFormat
from app.core.errors import OutOfHostMemory
from app.core.units import format_bytes
from app.training.lora import load_adapter

ANSWER_TOKENS = 16
_ROOM = 1.3
"""Memory for a model over its weights: activations and scores of one row."""
_TRANSFORMERS_READS = frozenset({"gpt2", "llama", "mistral", "qwen2", "qwen3"})
"""Shapes whose GGUF files transformers 5.23 reads (modeling_gguf_pytorch_utils.py); Phi-2 is not among them."""


def choose_arithmetic(base: Path) -> torch.dtype:
    """Return fp32, or bf16 where the memory that is free does not hold fp32 weights. Raise OutOfHostMemory for neither."""
    stored = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    config = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    width = getattr(config.dtype, "itemsize", 4) if config.dtype is not None else 4
    free = psutil.virtual_memory().available
    for dtype in (torch.float32, torch.bfloat16):
        needed = stored / width * dtype.itemsize * _ROOM
        if needed <= free:
            return dtype
    raise OutOfHostMemory("export", needed=format_bytes(int(needed)), free=format_bytes(free))


def load_reference(base: Path, adapter: Path, arithmetic: torch.dtype) -> nn.Module:
    """Return the model as it was trained: the published weights and the adapter beside them, not merged."""
    model = _load(base, arithmetic)
    load_adapter(model, adapter)
    return model.eval()


def reads_gguf(base: Path) -> bool:
    """Return whether transformers reads GGUF files of this model's shape."""
    return _config(base).model_type in _TRANSFORMERS_READS


def load_export(export_format: ExportFormat, folder: Path, base: Path, arithmetic: torch.dtype) -> nn.Module:
    """Return the exported model as transformers (and PEFT, for an adapter) reads it from `folder`."""
    if export_format == "adapter":
        from peft import PeftModel

        loaded: nn.Module = PeftModel.from_pretrained(_load(base, arithmetic), str(folder), torch_device="cpu")
        return loaded.eval()
    if export_format == "merged":
        return _load(folder, arithmetic).eval()
    (file,) = folder.glob("*.gguf")
    model: nn.Module = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file.name, config=_gguf_config(base), dtype=arithmetic, local_files_only=True, trust_remote_code=False
    )
    return model.eval()


@torch.inference_mode()
def answer_speed(model: nn.Module, prompt: list[int]) -> float:
    """Return tokens per second of one answer of ANSWER_TOKENS, the prompt's own time left out."""
    ids = torch.tensor([prompt])
    times = []
    cache = None
    for _ in range(ANSWER_TOKENS + 1):
        output = model(input_ids=ids, past_key_values=cache, use_cache=True)
        cache, ids = output.past_key_values, output.logits[:, -1].argmax(-1, keepdim=True)
        times.append(time.perf_counter())
    return ANSWER_TOKENS / (times[-1] - times[0])


def merged_dtype(folder: Path) -> str:
    """Return the precision that the exported config names."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")


def _load(folder: Path, arithmetic: torch.dtype) -> nn.Module:
    model: nn.Module = AutoModelForCausalLM.from_pretrained(
        folder, config=_config(folder), dtype=arithmetic, local_files_only=True, trust_remote_code=False, use_safetensors=True
    )
    return model


def _config(folder: Path) -> PretrainedConfig:
    return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _gguf_config(base: Path) -> PretrainedConfig:
    """Return the model's own configuration: what transformers guesses from the file misses some sizes.

    It has no GGUF names for Mistral, which is computed like Llama where no window slides.
    """
    config = _config(base)
    if config.model_type != "mistral":
        return config
    settings = {name: value for name, value in config.to_dict().items() if name not in ("model_type", "architectures")}
    return LlamaConfig(**settings)
