"""Liger's kernels beside transformers' own modules, whole models: the same loss and the same gradients.

Needs the packages of the extra `liger` (and, without a card, `triton`), which are not part of `make setup`. Where there is no
card Triton interprets the kernels: `TRITON_INTERPRET=1 pytest tests/engine/test_liger.py` (read when it is first imported). Its
interpreter (3.8) multiplies the bits of bfloat16 as whole numbers, so that type is for cards.
"""

import os
from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedConfig

from app.contracts.job import Lora
from app.training.assembly import Trainable, add_gradient, assemble, build_unloaded
from app.training.batching import MicroBatch, collate
from app.training.liger import _ROTATING, use_liger
from tests.engine.test_packing import CONFIGS, CPU, make_rows

if find_spec("liger_kernel") is None or find_spec("triton") is None:
    pytest.skip("liger-kernel (extra `liger`) is not installed here", allow_module_level=True)
DEVICE = torch.device("cuda:0") if torch.cuda.is_available() else CPU
if DEVICE.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("no card, and TRITON_INTERPRET is not set", allow_module_level=True)


@pytest.fixture(autouse=True)
def interpreted_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Triton's interpreter (3.8) hand over fractions as values of Triton, as its compiler does, and know CUDA's root."""
    if DEVICE.type == "cuda":
        return
    import triton.language as tl
    from liger_kernel.ops import rms_norm
    from triton.runtime import interpreter

    convert = interpreter._implicit_cvt

    def convert_floats(argument: object) -> object:
        if not isinstance(argument, float):
            return convert(argument)
        return tl.tensor(interpreter.TensorHandle(np.array([argument], dtype=np.float32), tl.float32), tl.float32)

    monkeypatch.setattr(interpreter, "_implicit_cvt", convert_floats)
    monkeypatch.setattr(rms_norm, "rsqrt", lambda x: tl.rsqrt(x))  # noqa: PLW0108  looked up in the kernel, where it is interpreted


@pytest.fixture(autouse=True)
def own_rotations() -> Iterator[None]:
    """Give transformers its own functions back."""
    plain = [modeling.apply_rotary_pos_emb for modeling in _ROTATING]
    yield
    for modeling, function in zip(_ROTATING, plain, strict=True):
        modeling.apply_rotary_pos_emb = function  # type: ignore[attr-defined]


def build(config: PreTrainedConfig, targets: list[str], dtype: str = "float32", dropout: float = 0.0) -> Trainable:
    torch.manual_seed(0)
    model = build_unloaded(config, device=DEVICE, kind="cuda", dtype=dtype, checkpointing=False)  # type: ignore[arg-type]
    lora = Lora(rank=4, alpha=8, dropout=dropout, target_modules=targets, fan_in_fan_out=False)
    built = assemble(model, lora, kind="cuda")
    for parameter in built.parameters:
        torch.nn.init.normal_(parameter, std=0.05)
    return built


def gradient(built: Trainable, batch: MicroBatch) -> list[Tensor]:
    for parameter in built.parameters:
        parameter.grad = None
    torch.manual_seed(1)
    loss = add_gradient(built.head, batch)
    return [loss, *(parameter.grad.clone() for parameter in built.parameters if parameter.grad is not None)]


TOLERANCES = [("float32", 2e-5), ("float16", 1e-2), *([("bfloat16", 3e-2)] if DEVICE.type == "cuda" else [])]
LLAMAS = [(config, targets) for config, targets in CONFIGS if config.model_type in ("llama", "qwen2", "qwen3")]


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("config", "targets"), LLAMAS, ids=[config.model_type for config, _ in LLAMAS])
def test_a_model_with_ligers_kernels_computes_what_it_computes_without(
    config: PreTrainedConfig, targets: list[str], packed: bool, dtype: str, tolerance: float
) -> None:
    batch = collate(make_rows(20, [5, 6, 7]), 0, DEVICE, 600, packed=packed)
    plain = gradient(build(config, targets, dtype), batch)
    built = build(config, targets, dtype)
    norms = 2 * 2 + 1 + (4 if config.model_type == "qwen3" else 0)
    assert use_liger(built.model) == norms + 2
    found = gradient(built, batch)
    assert len(found) == len(plain) > 1
    for ours, theirs in zip(found, plain, strict=True):
        assert (ours - theirs).norm() <= tolerance * theirs.norm()
    assert any(not torch.equal(ours, theirs) for ours, theirs in zip(found, plain, strict=True)), "the kernels were not used"


def test_dropout_and_every_target_together(config: PreTrainedConfig = LLAMAS[0][0]) -> None:
    """With adapters on all layers, the products that the activation's backward pass writes over come from our own functions."""
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    batch = collate(make_rows(20, []), 0, DEVICE, 600)
    plain = gradient(build(config, targets, dropout=0.3), batch)
    built = build(config, targets, dropout=0.3)
    use_liger(built.model)
    for ours, theirs in zip(gradient(built, batch), plain, strict=True):
        assert (ours - theirs).norm() <= 2e-5 * theirs.norm()


def test_other_models_stay_as_they_are() -> None:
    built = build(*CONFIGS[-1])
    assert built.model.config.model_type == "gpt2" and use_liger(built.model) == 0  # type: ignore[union-attr]
