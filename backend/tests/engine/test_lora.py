"""Adapters: the same numbers as PEFT, in PEFT's files."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM

from app.contracts.job import Lora
from app.core.errors import Invalid, Unsupported
from app.training.lora import adapter_disabled, adapter_tensors, attach, load_adapter, save_adapter
from tests.engine.tiny import GPT2_TARGETS, LLAMA_TARGETS, VOCABULARY

IDS = torch.arange(3, 3 + 40).view(2, 20) % VOCABULARY


def lora_for(name: str, *, dropout: float = 0.0) -> Lora:
    targets = {"llama": LLAMA_TARGETS, "gpt2": GPT2_TARGETS}[name]
    return Lora(rank=4, alpha=12, dropout=dropout, target_modules=targets, fan_in_fan_out=name == "gpt2")


def load(folder: Path) -> nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def moved_adapter(folder: Path, name: str) -> nn.Module:
    """Return a model whose adapter does something: B starts at zero."""
    model = load(folder)
    torch.manual_seed(1)
    for parameter in attach(model, lora_for(name)):
        nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_fresh_adapter_changes_nothing(name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    model = load(folder)
    before = logits(model)
    attach(model, lora_for(name))
    assert torch.allclose(logits(model), before, atol=1e-6)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_peft_loads_a_saved_adapter_with_equal_logits(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = request.getfixturevalue(name)
    model = moved_adapter(folder, name)
    save_adapter(model, tmp_path / "adapter", "org/name", lora_for(name), revision="abc")
    in_peft = PeftModel.from_pretrained(load(folder), tmp_path / "adapter")
    assert (logits(model) - logits(load(folder))).abs().max() > 0.1
    assert torch.allclose(logits(in_peft), logits(model), atol=1e-5)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/name", "abc")
    assert config["fan_in_fan_out"] is (name == "gpt2")


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_an_adapter_saved_by_peft_loads_with_equal_logits(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = request.getfixturevalue(name)
    lora = lora_for(name)
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, target_modules=lora.target_modules, fan_in_fan_out=lora.fan_in_fan_out
    )
    in_peft = get_peft_model(load(folder), config).eval()
    torch.manual_seed(2)
    for key, parameter in in_peft.named_parameters():
        if "lora_" in key:
            nn.init.normal_(parameter, std=0.1)
    in_peft.save_pretrained(tmp_path / "peft")
    model = load(folder)
    load_adapter(model, tmp_path / "peft")
    assert torch.allclose(logits(model), logits(in_peft), atol=1e-5)


def test_our_own_reader_gives_back_what_was_saved_and_can_be_switched_off(llama: Path, tmp_path: Path) -> None:
    model = moved_adapter(llama, "llama")
    save_adapter(model, tmp_path / "a", str(llama), lora_for("llama"))
    save_adapter(model, tmp_path / "a", str(llama), lora_for("llama"))  # writing over an older one is allowed
    again = load(llama)
    load_adapter(again, tmp_path / "a")
    assert torch.equal(logits(again), logits(model))
    with adapter_disabled(again):
        assert torch.equal(logits(again), logits(load(llama)))
    assert torch.equal(logits(again), logits(model))


def test_a_target_that_matches_nothing_names_the_layers_there_are(llama: Path) -> None:
    with pytest.raises(Invalid) as caught:
        attach(load(llama), lora_for("gpt2"))
    assert caught.value.key == "invalid.target_modules"
    assert "c_attn" in caught.value.message
    assert "q_proj" in caught.value.hint


def test_a_target_that_is_no_linear_layer_is_refused(llama: Path) -> None:
    lora = lora_for("llama").model_copy(update={"target_modules": ["embed_tokens"]})
    with pytest.raises(Invalid):
        attach(load(llama), lora)


def test_an_adapter_of_another_model_or_another_kind_is_refused(llama: Path, gpt2: Path, tmp_path: Path) -> None:
    save_adapter(moved_adapter(gpt2, "gpt2"), tmp_path / "a", "gpt2", lora_for("gpt2"))
    with pytest.raises(Invalid):
        load_adapter(load(llama), tmp_path / "a")
    config = tmp_path / "a" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"rank_pattern": {"c_fc": 8}}))
    with pytest.raises(Unsupported) as caught:
        load_adapter(load(gpt2), tmp_path / "a")
    assert "rank_pattern" in caught.value.message


@pytest.mark.parametrize(
    "options",
    [
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "olora"},
        {"alora_invocation_tokens": [1, 2]},
        {"trainable_token_indices": [3]},
        {"target_modules": r".*\.(q_proj|k_proj)"},
    ],
)
def test_an_adapter_of_peft_that_computes_something_else_is_refused_by_name(
    options: dict[str, Any], llama: Path, tmp_path: Path
) -> None:
    """The files are PEFT's own. With the last one it searches the names of the layers by a pattern."""
    config = LoraConfig(r=4, task_type="CAUSAL_LM", **{"target_modules": ["q_proj"], **options})
    get_peft_model(load(llama), config).save_pretrained(tmp_path / "a")
    with pytest.raises(Unsupported) as caught:
        load_adapter(load(llama), tmp_path / "a")
    assert next(iter(options)) in caught.value.message


def test_dropout_acts_only_in_training_and_repeats_with_the_seed(llama: Path) -> None:
    model = moved_adapter(llama, "llama")
    still = logits(model)
    for module in model.modules():
        if hasattr(module, "lora_A"):
            module.dropout = 0.5
    assert torch.equal(logits(model), still)
    model.train()
    torch.manual_seed(5)
    first = logits(model)
    second = logits(model)
    torch.manual_seed(5)
    assert torch.equal(logits(model), first)
    assert not torch.equal(first, second)


def test_gradients_with_dropout_equal_plain_autograd(llama: Path) -> None:
    """The fused layer against the same formula written with torch's own operations."""
    torch.manual_seed(3)
    layer = moved_adapter(llama, "llama").model.layers[0].mlp.down_proj
    layer.dropout = 0.3
    layer.train()
    x = torch.randn(2, 5, 64, requires_grad=True)
    results = []
    for fused in (True, False):
        layer.fused = fused
        torch.manual_seed(9)
        y = layer(x)
        grads = torch.autograd.grad(y.square().sum(), [x, layer.lora_A, layer.lora_B])
        results.append([y, *grads])
    for ours, plain in zip(*results, strict=True):
        assert torch.allclose(ours, plain, rtol=1e-4, atol=1e-4)


def test_keys_are_those_that_peft_expects(llama: Path, gpt2: Path) -> None:
    assert "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in adapter_tensors(moved_adapter(llama, "llama"))
    assert "base_model.model.transformer.h.1.mlp.c_proj.lora_B.weight" in adapter_tensors(moved_adapter(gpt2, "gpt2"))
