"""Attention as batched products against PyTorch's own."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM

from app.training.attention import LONGEST, NAME, causal_attention, choose_attention


@pytest.mark.parametrize("length", [1, 17, LONGEST, LONGEST + 5])
def test_outputs_and_gradients_equal_sdpa(length: int) -> None:
    torch.manual_seed(0)
    query = torch.randn(2, 6, length, 8, requires_grad=True)
    key, value = (torch.randn(2, 2, length, 8, requires_grad=True) for _ in range(2))
    ours, _ = causal_attention(torch.nn.Identity(), query, key, value, None, scaling=0.4)
    expected = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=0.4, enable_gqa=True)
    expected = expected.transpose(1, 2)
    assert torch.allclose(ours, expected, atol=1e-5)
    pull = torch.randn_like(ours)
    for grad, reference in zip(
        torch.autograd.grad(ours, (query, key, value), pull),
        torch.autograd.grad(expected, (query, key, value), pull),
        strict=True,
    ):
        assert torch.allclose(grad, reference, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_padding_on_the_right_leaves_real_tokens_alone(name: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(name)
    chosen = choose_attention(AutoConfig.from_pretrained(folder), "cpu")
    assert chosen == NAME
    ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=chosen).eval()
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    short, long = torch.arange(10, 16), torch.arange(20, 35)
    padded = torch.zeros(2, 15, dtype=torch.long)
    padded[0, :6], padded[1] = short, long
    with torch.no_grad():
        together = ours(input_ids=padded, use_cache=False).logits
        assert torch.allclose(together[0, :6], plain(input_ids=short[None]).logits[0], atol=1e-4)
        assert torch.allclose(together[1], plain(input_ids=long[None]).logits[0], atol=1e-4)


def test_anything_but_plain_causal_attention_is_left_to_pytorch(llama: Path) -> None:
    config = AutoConfig.from_pretrained(llama)
    assert choose_attention(config, "cuda") is None
    config.sliding_window = 128
    assert choose_attention(config, "cpu") is None
    config.sliding_window = None
    config.model_type = "gemma2"
    assert choose_attention(config, "cpu") is None
