"""One resident base model, its adapters, and the loop that answers token by token.

The base model is loaded once. An adapter is attached beside its layers and can be switched off, so the original's and
the tuned model's answers come from the same weights in memory.
"""

import ctypes
import gc
import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from app.contracts.chat import ChatDelta, GenerateCommand
from app.core.errors import Invalid, ModelUnavailable, Unsupported
from app.datasets.render import Renderer
from app.inference.detokenise import TextStream
from app.inference.sampling import Sampler
from app.inference.server import Interrupted
from app.storage.model_store import EMBEDDED_NAME, missing_files
from app.training.embedded import materialise
from app.training.loading import use_physical_cores
from app.training.lora import WEIGHTS_NAME, LoraLayer, adapter_disabled, keep_layout, load_adapter
from app.training.memory import is_out_of_memory

PREFILL_TOKENS = 512
"""The prompt is read in pieces of this length, so that a stop is noticed and scores never fill the memory."""


@dataclass
class _Resident:
    """What is in memory."""

    key: tuple[str, str, str]
    """Model folder, precision and quantization."""
    model: nn.Module
    renderer: Renderer
    context: int
    """Longest sequence the model was made for, in tokens."""
    adapter: tuple[str, int] | None = None
    """Adapter folder and the time its weights were written (ns)."""


class Engine:
    """Answers commands on one device. Not safe to share between threads."""

    def __init__(self, device_id: str) -> None:
        self._device = torch.device(device_id)
        self._cores = use_physical_cores()
        self._resident: _Resident | None = None

    def answer(self, command: GenerateCommand, is_interrupted: Callable[[], bool]) -> Iterator[ChatDelta]:
        """Yield the answer piece by piece; the last one is `finished`. `seconds` counts from the start of the prompt.

        Raise AffinageError for a model, an adapter or a prompt that cannot be used, Interrupted when asked to stop.
        """
        if self._device.type == "cpu":
            torch.set_num_threads(self._free_cores())
        resident = self._load(command)
        self._set_adapter(resident, command.adapter_path)
        prompt = resident.renderer.encode_prompt(command.messages)
        if len(prompt) >= resident.context:
            raise Invalid("prompt_too_long", tokens=len(prompt), limit=resident.context)
        most = min(command.generation.max_new_tokens, resident.context - len(prompt))
        started = time.monotonic()
        text, tokens = TextStream(resident.renderer.decode), 0
        for token in self._tokens(resident, prompt, most, command, is_interrupted):
            tokens += 1
            if piece := text.push(token):
                yield ChatDelta(target=command.target, delta=piece, tokens=tokens, seconds=time.monotonic() - started)
        seconds = time.monotonic() - started
        yield ChatDelta(target=command.target, delta=text.flush(), finished=True, tokens=tokens, seconds=seconds)

    def unload(self) -> None:
        """Free the model and give its memory back to the system."""
        self._resident = None
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        with suppress(AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)  # glibc keeps freed memory otherwise

    def is_out_of_memory(self, error: Exception) -> str | None:
        """Return the error key when `error` says that memory ran out."""
        if not is_out_of_memory(error):
            return None
        return "oom_host.chat" if self._device.type == "cpu" else "oom_device.chat"

    def _tokens(
        self, resident: _Resident, prompt: list[int], most: int, command: GenerateCommand, is_interrupted: Callable[[], bool]
    ) -> Iterator[int]:
        """Yield at most `most` token ids, ending before the first that closes the answer."""
        sampler = Sampler(command.generation)
        cache: Any = None
        pending = torch.tensor([prompt], device=self._device)
        for _ in range(most):
            for piece in torch.split(pending, PREFILL_TOKENS, dim=1):
                if is_interrupted():
                    raise Interrupted
                scores, cache = self._forward(resident.model, piece, cache, adapted=command.adapter_path is not None)
            token = sampler.choose(scores)
            if token in resident.renderer.stop_ids:
                return
            yield token
            pending = torch.tensor([[token]], device=self._device)

    @staticmethod
    @torch.inference_mode()
    def _forward(model: nn.Module, ids: torch.Tensor, cache: Any, *, adapted: bool) -> tuple[torch.Tensor, Any]:
        """Return the scores after the last id and the attention cache that includes `ids`."""
        arguments: dict[str, Any] = {"input_ids": ids, "past_key_values": cache, "use_cache": True, "logits_to_keep": 1}
        if adapted:
            output = model(**arguments)
        else:
            with adapter_disabled(model):
                output = model(**arguments)
        return output.logits[0, -1], output.past_key_values

    def _free_cores(self) -> int:
        """Return how many cores are idle now, at least 1.

        Each token is some hundred short products with a wait for every thread after each. Where another program holds a
        core, two threads were measured 20 times slower than one.
        """
        runnable = int(Path("/proc/loadavg").read_text("ascii").split()[3].split("/")[0])
        return max(1, min(self._cores, self._cores + 1 - runnable))  # this thread itself is runnable

    def _load(self, command: GenerateCommand) -> _Resident:
        key = (command.model_path, command.dtype, command.quantization)
        if self._resident is not None and self._resident.key == key:
            return self._resident
        self.unload()
        folder = Path(command.model_path)
        if missing_files(folder) and folder.name == EMBEDDED_NAME and folder.parent.name == "embedded":
            materialise(folder)
        if missing := missing_files(folder):
            raise ModelUnavailable("folder_incomplete", path=command.model_path, missing=", ".join(missing))
        renderer = Renderer.load(folder)
        precision = self._precision(command.dtype)
        quantization = _nf4(precision) if command.quantization == "nf4" else None
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            model: nn.Module = AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                dtype=precision,
                attn_implementation="sdpa",
                quantization_config=quantization,
                device_map={"": str(self._device)} if quantization else None,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
            )
        except (OSError, ValueError, KeyError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ModelUnavailable("unreadable", model_id=folder.name, reason=str(error).splitlines()[0]) from error
        context = int(getattr(config, "max_position_embeddings", 0) or 1 << 20)
        if quantization is None:
            model.to(self._device)
        keep_layout(model)
        self._resident = _Resident(key, model.eval(), renderer, context)
        return self._resident

    def _precision(self, dtype: str) -> torch.dtype:
        """Return the asked precision where the device computes it natively, else the nearest that it does."""
        asked: torch.dtype = getattr(torch, dtype)
        if self._device.type == "cuda":
            native = torch.cuda.get_device_capability(self._device) >= (8, 0)
            return torch.float16 if asked is torch.bfloat16 and not native else asked
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return torch.bfloat16 if fast and asked is not torch.float32 else torch.float32

    def _set_adapter(self, resident: _Resident, adapter_path: str | None) -> None:
        """Attach the adapter unless it is; one that is attached stays for the next command when none is asked for."""
        if adapter_path is None:
            return
        folder = Path(adapter_path)
        try:
            key = (adapter_path, (folder / WEIGHTS_NAME).stat().st_mtime_ns)
        except FileNotFoundError as error:
            raise ModelUnavailable("adapter_missing", path=adapter_path) from error
        if resident.adapter == key:
            return
        _detach(resident.model)
        resident.adapter = None
        try:
            load_adapter(resident.model, folder)
        except BaseException:
            _detach(resident.model)
            raise
        dtype = next(resident.model.parameters()).dtype
        for layer in [module for module in resident.model.modules() if isinstance(module, LoraLayer)]:
            # Cast once instead of at every token; the layers cast to the activations' precision anyway.
            layer.lora_A.data, layer.lora_B.data = layer.lora_A.data.to(dtype), layer.lora_B.data.to(dtype)
        resident.model.eval()
        resident.adapter = key


def _nf4(precision: torch.dtype) -> object:
    """Return transformers' settings for 4-bit weights, those of training. Raise Unsupported without the packages."""
    if any(importlib.util.find_spec(package) is None for package in ("bitsandbytes", "accelerate")):
        raise Unsupported("nf4")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=precision,
    )


def _detach(model: nn.Module) -> None:
    """Put the original layers back in place of those that carry an adapter."""
    for name, layer in [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer)]:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.wrapped)
