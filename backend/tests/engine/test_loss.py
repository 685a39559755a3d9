"""The chunked loss against PyTorch's cross-entropy."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, GraniteConfig, GraniteForCausalLM, PhiConfig, PhiForCausalLM

from app.contracts.job import Lora
from app.planner.memory import count_loss_rows
from app.training.batching import MicroBatch
from app.training.lora import attach
from app.training.loss import LossHead, summed_nll
from tests.engine.tiny import VOCABULARY


@pytest.mark.parametrize("rows", [1, 7, 400])
def test_chunked_loss_and_gradient_equal_cross_entropy(rows: int) -> None:
    torch.manual_seed(0)
    vocabulary = 1 << 15  # 256 rows fit into one chunk: 400 rows need two
    assert count_loss_rows("cpu", vocabulary) == 256
    hidden = torch.randn(rows, 16, requires_grad=True)
    weight = torch.randn(vocabulary, 16)
    targets = torch.randint(0, vocabulary, (rows,))
    expected = F.cross_entropy(hidden @ weight.t(), targets, reduction="sum")
    (expected_grad,) = torch.autograd.grad(expected * 0.5, hidden)
    ours = summed_nll(hidden, weight, targets)
    (grad,) = torch.autograd.grad(ours * 0.5, hidden)
    assert torch.allclose(ours, expected, rtol=1e-5)
    assert torch.allclose(grad, expected_grad, rtol=1e-4, atol=1e-5)


def test_without_gradients_nothing_is_kept() -> None:
    hidden, weight = torch.randn(5, 16, requires_grad=True), torch.randn(40, 16)
    with torch.no_grad():
        total = summed_nll(hidden, weight, torch.arange(5))
    assert not total.requires_grad
    assert torch.allclose(total, F.cross_entropy(hidden @ weight.t(), torch.arange(5), reduction="sum"))


def test_bfloat16_stays_close_to_full_precision() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(64, 32), torch.randn(500, 32) * 0.3
    targets = torch.randint(0, 500, (64,))
    exact = summed_nll(hidden, weight, targets)
    rough = summed_nll(hidden.bfloat16(), weight.bfloat16(), targets)
    assert rough.dtype == torch.float32
    assert abs(rough.item() / exact.item() - 1) < 5e-3


def selected(model: torch.nn.Module, head: LossHead) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss on two positions of each row, by `head` and by the model's own logits."""
    ids = torch.arange(5, 25).view(2, 10)
    positions = torch.tensor([3, 8, 12, 18])
    targets = ids.view(-1)[positions + 1]
    logits = model(input_ids=ids).logits.flatten(0, 1)
    return head.summed(MicroBatch(ids, positions, targets, 20)), F.cross_entropy(logits[positions], targets, reduction="sum")


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_plain_head_is_chunked_and_gives_the_models_own_loss(name: str, request: pytest.FixtureRequest) -> None:
    model = AutoModelForCausalLM.from_pretrained(request.getfixturevalue(name), dtype=torch.float32).eval()
    head = LossHead.of(model)
    assert head.chunk_rows
    ours, expected = selected(model, head)
    assert torch.allclose(ours, expected, rtol=1e-5)


def scaled_model() -> torch.nn.Module:
    config = GraniteConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=VOCABULARY,
        logits_scaling=4.0,
        initializer_range=0.3,
    )
    return GraniteForCausalLM(config).eval()


def biased_model() -> torch.nn.Module:
    config = PhiConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, vocab_size=VOCABULARY)
    model = PhiForCausalLM(config).eval()
    torch.nn.init.normal_(model.lm_head.bias)
    return model


def test_a_head_that_scales_its_logits_takes_the_plain_path() -> None:
    torch.manual_seed(0)
    model = scaled_model()
    head = LossHead.of(model)
    assert not head.chunk_rows
    ours, expected = selected(model, head)
    assert torch.allclose(ours, expected, rtol=1e-5)


def test_a_head_with_a_bias_is_chunked_and_gives_the_models_own_loss() -> None:
    torch.manual_seed(0)
    model = biased_model()
    head = LossHead.of(model)
    assert head.chunk_rows
    ours, expected = selected(model, head)
    assert torch.allclose(ours, expected, rtol=1e-5)


def test_an_adapter_on_the_head_takes_the_plain_path(llama: Path) -> None:
    """The chunked loss has no gradient for the head."""
    model = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32)
    attach(model, Lora(rank=2, alpha=2, dropout=0.0, target_modules=["lm_head"], fan_in_fan_out=False))
    assert not LossHead.of(model).chunk_rows
