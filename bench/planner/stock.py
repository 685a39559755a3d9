"""The stock stack (transformers, PEFT, AdamW, checkpointing) of a measured row, traced without weights and without a GPU.

A row names sizes, not a config.json; the family follows from the model's name, and the parameter count must come out
exactly as the row says. What is specific to this stack lives here; the tracer is the planner's own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import peft.tuners.lora.layer as lora_layer
import torch
import transformers
from loading import AHEAD, LoadedTensor, list_tensors, replay_loading
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM

from app.planner.trace.costs import Costs
from app.planner.trace.cuda_allocator import CachingAllocator, replay
from app.planner.trace.kernels import PackedLinear, as_on, find_heads, list_held, pack_linears, replaced
from app.planner.trace.stream import AFTER, Recorder, Stream

transformers.logging.set_verbosity_error()

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
STEPS = 2
"""The optimizer's states exist from the second step on."""
WORKSPACE = {True: 32 << 20, False: 8_519_680}
"""cuBLAS workspace of one thread from Hopper on, and before. The forward and the autograd thread have one each."""

FAMILIES: tuple[tuple[str, str], ...] = (
    ("qwen3", "Qwen3Config"),
    ("qwen", "Qwen2Config"),
    ("mistral", "MistralConfig"),
    ("zephyr", "MistralConfig"),
    ("gemma-3", "Gemma3TextConfig"),
    ("gemma-2", "Gemma2Config"),
    ("gemma", "GemmaConfig"),
    ("phi-3", "Phi3Config"),
    ("phi-4", "Phi3Config"),
    ("phi", "PhiConfig"),
    ("smollm3", "SmolLM3Config"),
    ("stablelm", "StableLmConfig"),
    ("olmo-2", "Olmo2Config"),
    ("olmo", "OlmoConfig"),
    ("granite", "GraniteConfig"),
    ("starcoder2", "Starcoder2Config"),
    ("gpt2", "GPT2Config"),
    ("pythia", "GPTNeoXConfig"),
    ("opt", "OPTConfig"),
    ("bloom", "BloomConfig"),
    ("", "LlamaConfig"),
)
"""Part of the model's name, in lower case -> class of its configuration; the first that matches."""

CAPABILITIES: dict[int, tuple[str, ...]] = {
    6: ("p100", "p40", "gtx 10"),
    7: (" t4 ", "v100", "rtx 20", "gtx 16", "quadro rtx", "titan rtx"),
    9: ("h100", "h200", "h20 ", "gh200"),
    10: ("b200", "b100", "gb200", "rtx 50"),
}
"""Major compute capability -> parts of the names of its cards (10 stands for all of Blackwell)."""


@dataclass(frozen=True)
class StockTrace:
    """What the trace of one row says."""

    resident_bytes: int
    forward_peak_bytes: int
    backward_peak_bytes: int
    optimizer_peak_bytes: int
    reserved_bytes: int
    params: int
    adapter_params: int
    costs: Costs
    """Work of one step: forward, backward, optimizer."""
    trace_seconds: float

    @property
    def allocated_bytes(self) -> int:
        """The step's peak."""
        return max(self.forward_peak_bytes, self.backward_peak_bytes, self.optimizer_peak_bytes)


def name_family(name: str) -> str:
    """Return the name of the transformers configuration class for a model called `name`."""
    lowered = name.lower().rsplit("/", 1)[-1]
    return next(config for part, config in FAMILIES if part in lowered)


def make_config(sizes: dict[str, Any]) -> Any:
    """Return a transformers configuration with a row's sizes (`model_config` in the file)."""
    cls = getattr(transformers, name_family(sizes["name"]))
    config = cls()
    wanted = {
        "hidden_size": sizes["hidden_size"],
        "num_hidden_layers": sizes["num_layers"],
        "num_attention_heads": sizes["num_attention_heads"],
        "num_key_value_heads": sizes["num_kv_heads"],
        "intermediate_size": sizes["intermediate_size"],
        "vocab_size": sizes["vocab_size"],
        "head_dim": sizes.get("head_dim") or sizes["hidden_size"] // sizes["num_attention_heads"],
        "tie_word_embeddings": sizes["tie_word_embeddings"],
    }
    known = {key: value for key, value in wanted.items() if key in config.to_dict() or key in cls.attribute_map}
    if "head_dim" in cls.__annotations__ or "head_dim" in config.to_dict():
        known["head_dim"] = wanted["head_dim"]
    if cls.__name__ == "GPT2Config":
        known["n_inner"] = wanted["intermediate_size"]
    for unwanted in ("pad_token_id", "bos_token_id", "eos_token_id"):
        known[unwanted] = None  # Defaults of the class may lie outside a smaller vocabulary.
    return cls(**known)


@contextmanager
def bitsandbytes_lora() -> Iterator[None]:
    """Let PEFT treat a PackedLinear as its 4-bit layer: the result is copied before the adapter's part is added."""
    plain = lora_layer.Linear.forward

    def forward(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if not isinstance(self.base_layer, PackedLinear):
            return plain(self, x, *args, **kwargs)
        result = self.base_layer(x).clone()
        down, up = self.lora_A["default"], self.lora_B["default"]
        x = x.to(down.weight.dtype)
        low = down(self.lora_dropout["default"](x))
        return result + (up(low) * self.scaling["default"]).to(result.dtype)

    with replaced(lora_layer.Linear, "forward", forward):
        yield


def trace_row(row: dict[str, Any]) -> StockTrace:
    """Follow the row's training step; raise ValueError for an optimizer or a precision that is not known."""
    started = time.perf_counter()
    run = row["run"]
    if run["optimizer"] not in {"adamw", "adamw_torch"}:
        raise ValueError(f"unknown optimizer {run['optimizer']!r}")
    if run["quantization"] not in {"nf4", "none"} or run["precision"] not in DTYPES:
        raise ValueError(f"unknown precision {run['precision']!r}, {run['quantization']!r}")
    capability = find_capability(run.get("gpu_name", row.get("gpu", "")))
    recorder = Recorder()
    with as_on("cuda", capability), bitsandbytes_lora():
        with torch.device("meta"):
            model, params, loaded = _build(run, row["model_config"], recorder)
            ids = torch.zeros(run["batch_size"], run["seq_len"], dtype=torch.long)
        weights = len(recorder.stream.ids)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        _hold_adapter(recorder, trained, made_narrow=run["quantization"] == "none")
        optimizer = torch.optim.AdamW(trained, lr=1e-4, foreach=True)
        resident = len(recorder.stream.ids)
        recorder.hold([ids], "activations")
        recorder.take(WORKSPACE[capability >= 9], "workspace")
        with recorder:
            for step in range(STEPS):
                recorder.begin("forward", round_=step)
                output = model(input_ids=ids, labels=ids)
                if step == 0:
                    recorder.take(WORKSPACE[capability >= 9], "workspace")
                recorder.begin("backward", AFTER)
                output.loss.backward()
                recorder.begin("optimizer")
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                del output
    stream = recorder.finish()
    measured = [_replay(stream, weights, resident, loaded, ahead) for ahead in (AHEAD if loaded else (0,))]
    return StockTrace(
        **{name: round(fmean(one[name] for one in measured)) for name in measured[0]},
        params=params,
        adapter_params=sum(parameter.numel() for parameter in trained),
        costs=_sum_costs(stream),
        trace_seconds=time.perf_counter() - started,
    )


def _build(run: dict[str, Any], sizes: dict[str, Any], recorder: Recorder) -> tuple[Any, int, list[LoadedTensor]]:
    """Return the model with its adapter, the frozen model's parameter count, and the tensors of a 4-bit model.

    The frozen weights are held by `recorder`.
    """
    loaded: list[LoadedTensor] = []
    dtype = DTYPES[run["precision"]]
    attention = "eager" if run["attn_impl"] == "eager" else "sdpa"
    model: Any = AutoModelForCausalLM.from_config(make_config(sizes), dtype=dtype, attn_implementation=attention)
    model.config.use_cache = False
    params = sum(parameter.numel() for parameter in model.parameters())
    if run["quantization"] == "nf4":
        unpacking = pack_linears(model, find_heads(model), dtype, double_quant=bool(run["double_quant"]))
        unpacking.recorder = recorder
        for parameter in model.parameters():  # peft.prepare_model_for_kbit_training
            if parameter.dtype in {torch.float16, torch.bfloat16}:
                parameter.data = parameter.data.float()
        loaded = list_tensors(model)
    recorder.begin("forward")
    recorder.hold(list_held(model), "weights")
    lora = LoraConfig(
        r=run["lora_rank"], lora_alpha=2 * run["lora_rank"], target_modules=run["lora_targets"],
        lora_dropout=run.get("lora_dropout", 0.0), bias="none", task_type="CAUSAL_LM",
    )  # fmt: skip
    model = get_peft_model(model, lora)
    if run["grad_checkpoint"]:
        # The generator's state is no tensor on the device, and `meta` has none to keep.
        model.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
        model.enable_input_require_grads()
    return model.train(), params, loaded


def _hold_adapter(recorder: Recorder, trained: list[nn.Parameter], *, made_narrow: bool) -> None:
    """Hold the adapter; on a 16-bit model PEFT makes it in 16 bits and widens it matrix by matrix."""
    narrow = [recorder.take(2 * parameter.numel(), "adapter") for parameter in trained] if made_narrow else []
    for index, parameter in enumerate(trained):
        recorder.hold([parameter], "adapter")
        if narrow:
            recorder.give_back(narrow[index], 2 * parameter.numel())


def _replay(stream: Stream, weights: int, resident: int, loaded: list[LoadedTensor], ahead: int) -> dict[str, int]:
    """Replay the allocator; peaks are those of the last step, as the rows were measured.

    The stream's first `weights` events take the frozen weights, its first `resident` all that exists before a step.
    """
    allocator = CachingAllocator()
    if loaded:
        replay_loading(allocator, loaded, ahead)
    else:
        replay(allocator, stream.ids[:weights], stream.sizes[:weights])
    replay(allocator, stream.ids[weights:resident], stream.sizes[weights:resident])
    resident_bytes = allocator.allocated
    peaks: dict[str, int] = {}
    starts = [mark.start for mark in stream.marks] + [len(stream.ids)]
    position = resident
    for mark, end in zip(stream.marks, starts[1:], strict=True):
        if end <= position:
            continue
        allocator.allocated_peak = allocator.allocated
        replay(allocator, stream.ids[position:end], stream.sizes[position:end])
        position = end
        peaks[f"{mark.phase}_peak_bytes"] = allocator.allocated_peak
    return {"resident_bytes": resident_bytes, "reserved_bytes": allocator.reserved_peak, **peaks}


def _sum_costs(stream: Stream) -> Costs:
    """Return the work of the last step."""
    total = Costs()
    for (_, step), costs in stream.costs.items():
        if step == STEPS - 1:
            for name, value in asdict(costs).items():
                setattr(total, name, getattr(total, name) + value)
    return total


def find_capability(gpu_name: str) -> int:
    """Return the major compute capability of a named card; 8, the most common class, for one not listed."""
    lowered = f" {gpu_name.lower()} "
    return next((major for major, names in CAPABILITIES.items() if any(name in lowered for name in names)), 8)
