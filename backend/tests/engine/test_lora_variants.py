"""rsLoRA and DoRA: the same numbers and gradients as PEFT, in PEFT's files, through whole runs."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from app.contracts.hardware import DeviceKind
from app.contracts.job import Lora
from app.planner.shapes import count_adapter_params, shape_from_config
from app.training.assembly import assemble
from app.training.blocks import FusedBlock
from app.training.loading import load_model
from app.training.lora import adapter_tensors, attach, load_adapter, save_adapter
from tests.engine.test_engine import adapter, run, steps_of
from tests.engine.test_lora import IDS, load, logits, lora_for
from tests.engine.tiny import GPT2_TARGETS, examples, make_job

TARGETS = {"llama": None, "qwen2": None, "gpt2": GPT2_TARGETS}
VARIANTS = [{"use_rslora": True}, {"use_dora": True}, {"use_dora": True, "use_rslora": True}]


def variant_for(name: str, variant: dict[str, bool], dropout: float = 0.0) -> Lora:
    return lora_for("gpt2" if name == "gpt2" else "llama", dropout=dropout).model_copy(update=variant)


def stirred(model: nn.Module) -> nn.Module:
    """Give each adapter tensor values of its own, the same for the same model."""
    torch.manual_seed(4)
    for key, tensor in sorted(adapter_tensors(model).items()):
        with torch.no_grad():
            tensor.add_(0.1 * torch.randn_like(tensor)) if "magnitude" in key else tensor.normal_(std=0.1)
    return model


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen2"])
def test_peft_computes_the_same_logits_and_gradients(
    name: str, variant: dict[str, bool], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(name)
    lora = variant_for(name, variant)
    model = load(folder)
    attach(model, lora)
    assert torch.allclose(logits(model), logits(load(folder)), atol=1e-5)  # fresh, it changes nothing
    stirred(model)
    save_adapter(model, tmp_path / "a", "org/name", lora)
    in_peft = PeftModel.from_pretrained(load(folder), tmp_path / "a", is_trainable=True).eval()
    assert (logits(model) - logits(load(folder))).abs().max() > 0.1
    assert torch.allclose(logits(in_peft), logits(model), atol=1e-5)
    for each in (model, in_peft):
        each(input_ids=IDS, labels=IDS).loss.backward()
    theirs = {
        key.replace(".default", "").removesuffix(".weight"): parameter.grad
        for key, parameter in in_peft.named_parameters()
        if parameter.requires_grad
    }
    ours = {key.removesuffix(".weight"): parameter.grad for key, parameter in adapter_tensors(model).items()}
    assert ours.keys() == theirs.keys()
    for key, gradient in ours.items():
        assert gradient is not None and theirs[key] is not None
        assert (gradient - theirs[key]).norm() <= 2e-5 * theirs[key].norm() + 1e-9, key


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_an_adapter_of_peft_loads_with_equal_logits(
    name: str, variant: dict[str, bool], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(name)
    lora = variant_for(name, variant)
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, target_modules=lora.target_modules, fan_in_fan_out=lora.fan_in_fan_out, **variant
    )
    in_peft = get_peft_model(load(folder), config).eval()
    torch.manual_seed(2)
    for key, parameter in in_peft.named_parameters():
        if "magnitude" in key:
            parameter.data.mul_(1.3)
        elif "lora_" in key:
            nn.init.normal_(parameter, std=0.1)
    in_peft.save_pretrained(tmp_path / "peft")
    model = load(folder)
    load_adapter(model, tmp_path / "peft")
    assert torch.allclose(logits(model), logits(in_peft), atol=1e-5)
    assert (logits(model) - logits(load(folder))).abs().max() > 0.1


def test_dropout_acts_as_in_peft(llama: Path, tmp_path: Path) -> None:
    lora = variant_for("llama", {"use_dora": True}, dropout=0.4)
    model = load(llama)
    attach(model, lora)
    save_adapter(stirred(model), tmp_path / "a", "org/name", lora)
    in_peft = PeftModel.from_pretrained(load(llama), tmp_path / "a", is_trainable=True)
    results = []
    for each in (model, in_peft):
        each.train()
        torch.manual_seed(8)
        results.append(logits(each))
    assert torch.allclose(results[0], results[1], atol=1e-5)
    assert (results[0] - logits(model.eval())).abs().max() > 0.1


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_blocks_with_dora_are_not_fused(kind: DeviceKind, llama: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", llama, train=examples(1), heldout=[]).read_job()
    for use_dora in (False, True):
        model = load_model(job, torch.device("cpu"))
        assemble(model, job.lora.model_copy(update={"use_dora": use_dora}), kind=kind)
        fused = any(isinstance(module, FusedBlock) for module in model.modules())
        assert fused is (kind == "cpu" and not use_dora)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_run_with_dora_learns_and_saves_its_magnitudes(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = request.getfixturevalue(name)
    job_dir = make_job(
        tmp_path / "job",
        folder,
        train=examples(24),
        heldout=[],
        targets=TARGETS[name],
        num_epochs=4,
        learning_rate=2e-2,
        lora={"use_dora": True},
    )
    run(job_dir)
    losses = [event.loss for event in steps_of(job_dir)]
    assert losses[-1] < 0.8 * losses[0]
    model = load(folder)
    fresh = {key: tensor.clone() for key, tensor in adapter_tensors_of(model, variant_for(name, {"use_dora": True})).items()}
    moved = [key for key in fresh if "magnitude" in key and (adapter(job_dir)[key] - fresh[key]).abs().max() > 1e-3]
    assert len(moved) == sum("magnitude" in key for key in fresh) > 0


def adapter_tensors_of(model: nn.Module, lora: Lora) -> dict[str, nn.Parameter]:
    attach(model, lora)
    return adapter_tensors(model)


def test_rank_stabilised_scale_is_alpha_over_the_root_of_the_rank() -> None:
    lora = Lora(rank=16, alpha=32, dropout=0.0, target_modules=["x"], fan_in_fan_out=False)
    assert lora.scale == 2.0
    assert lora.model_copy(update={"use_rslora": True}).scale == 8.0


@pytest.mark.parametrize("use_dora", [False, True])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_the_planner_counts_what_is_trained(name: str, use_dora: bool, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    lora = variant_for(name, {"use_dora": use_dora})
    trained = sum(parameter.numel() for parameter in attach(load(folder), lora))
    shape = shape_from_config(json.loads((folder / "config.json").read_text()))
    assert count_adapter_params(shape, lora.rank, lora.target_modules, dora=use_dora) == trained
