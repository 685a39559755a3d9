"""QLoRA on a processor: frozen weights in 4 bits (NF4), computed by bitsandbytes."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from app.training.checkpoint import list_checkpoints
from app.training.engine import train
from app.training.loading import four_bits, load_model
from app.training.lora import LoraLayer, adapter_tensors, attach, save_adapter
from app.training.stopping import Stopped, StopWatch
from tests.engine.test_engine import StopAfter, adapter, steps_of
from tests.engine.test_lora import IDS
from tests.engine.tiny import GPT2_TARGETS, examples, make_job

if any(find_spec(package) is None for package in ("bitsandbytes", "accelerate")):
    pytest.skip("bitsandbytes (extra `qlora`) is not installed here", allow_module_level=True)

TARGETS = {"llama": None, "gpt2": GPT2_TARGETS}


def unpacked(model: nn.Module) -> int:
    """Put plain layers with the same, dequantised weights in place of the 4-bit ones; return how many."""
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    found = [(name, module) for name, module in model.named_modules() if isinstance(module, Linear4bit)]
    for name, module in found:
        weight = dequantize_4bit(module.weight.data, module.weight.quant_state)
        plain = nn.Linear(module.in_features, module.out_features, bias=module.bias is not None)
        plain.weight = nn.Parameter(weight.float(), requires_grad=False)
        plain.bias = module.bias
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, plain)
    return len(found)


@pytest.mark.parametrize("use_dora", [False, True])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_losses_and_gradients_are_those_of_the_dequantised_weights(
    name: str, use_dora: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Also after an answer without gradients, in which bitsandbytes would change the layout of the weights."""
    folder = request.getfixturevalue(name)
    job = make_job(
        tmp_path / "job",
        folder,
        train=examples(1),
        heldout=[],
        targets=TARGETS[name],
        quantization="nf4",
        lora={"use_dora": use_dora},
    ).read_job()
    results = []
    for dequantised in (False, True):
        model = load_model(job, torch.device("cpu"))
        with torch.no_grad():
            model.eval()(input_ids=IDS)
        model.train()
        if dequantised:
            assert unpacked(model) == (14 if name == "llama" else 8)
        torch.manual_seed(1)
        attach(model, job.lora)
        assert not any(isinstance(module, Conv1D) for module in model.modules())
        for key, tensor in sorted(adapter_tensors(model).items()):
            if "magnitude" not in key:
                nn.init.normal_(tensor, std=0.1)
        loss = model(input_ids=IDS, labels=IDS).loss
        loss.backward()
        gradients = {key: parameter.grad for key, parameter in adapter_tensors(model).items()}
        results.append((loss.item(), gradients))
    (ours, packed), (plain, whole) = results
    assert ours == pytest.approx(plain, rel=1e-5)
    for key, gradient in packed.items():
        assert gradient is not None and whole[key] is not None
        assert (gradient - whole[key]).norm() <= 1e-4 * whole[key].norm(), key


@pytest.mark.parametrize("use_dora", [False, True])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_losses_and_gradients_are_those_of_peft(
    name: str, use_dora: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Of the same 4-bit weights, loaded by transformers alone, under the same adapter, loaded by PEFT."""
    folder = request.getfixturevalue(name)
    job = make_job(
        tmp_path / "job", folder, train=examples(1), heldout=[], targets=TARGETS[name], quantization="nf4",
        lora={"use_dora": use_dora},
    ).read_job()  # fmt: skip
    ours = load_model(job, torch.device("cpu"))
    torch.manual_seed(1)
    attach(ours, job.lora)
    for key, tensor in sorted(adapter_tensors(ours).items()):
        if "magnitude" not in key:
            nn.init.normal_(tensor, std=0.1)
    save_adapter(ours, tmp_path / "adapter", "org/name", job.lora)
    loss = ours(input_ids=IDS, labels=IDS).loss
    loss.backward()

    base = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, quantization_config=four_bits(torch.float32), device_map={"": "cpu"}
    )
    theirs = PeftModel.from_pretrained(base, tmp_path / "adapter", is_trainable=True)
    for module in theirs.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    expected = theirs.train()(input_ids=IDS, labels=IDS).loss
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    gradients = {
        key.replace(".default", "").replace("_vector.weight", "_vector"): parameter.grad
        for key, parameter in theirs.named_parameters()
        if parameter.requires_grad
    }
    found = adapter_tensors(ours)
    assert len(found) == len(gradients)
    for key, parameter in found.items():
        gradient = gradients[key]
        assert parameter.grad is not None and gradient is not None
        assert (parameter.grad - gradient).norm() <= 1e-4 * gradient.norm(), key


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_run_in_four_bits_learns_and_resumes_exactly(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = request.getfixturevalue(name)

    def job(name_of_job: str):  # type: ignore[no-untyped-def]
        return make_job(
            tmp_path / name_of_job,
            folder,
            train=examples(16),
            heldout=examples(4, start=16),
            targets=TARGETS[name],
            quantization="nf4",
            dropout=0.1,
            num_epochs=4,
            learning_rate=2e-2,
        )

    whole, parts = job("whole"), job("parts")
    report = train(whole, StopWatch(whole))
    assert report.loss_before is not None and report.loss_after is not None
    assert report.loss_after < 0.85 * report.loss_before
    with pytest.raises(Stopped):
        train(parts, StopAfter(parts, 3, parts.pause_file))
    assert len(list_checkpoints(parts.checkpoints)) == 1
    parts.pause_file.unlink()
    train(parts, StopWatch(parts))
    assert [event.loss for event in steps_of(parts)] == [event.loss for event in steps_of(whole)]
    assert all(torch.equal(tensor, adapter(whole)[key]) for key, tensor in adapter(parts).items())


def test_the_frozen_weights_take_a_quarter_of_sixteen_bits(llama: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", llama, train=examples(1), heldout=[], quantization="nf4").read_job()
    model = load_model(job, torch.device("cpu"))
    attach(model, job.lora)
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    assert len(layers) == 14
    for layer in layers:
        inputs, outputs = layer.lora_A.shape[1], layer.lora_B.shape[0]
        assert layer.wrapped.weight.nbytes * 2 == inputs * outputs  # type: ignore[operator]
