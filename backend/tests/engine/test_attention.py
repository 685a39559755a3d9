"""Attention as batched products against PyTorch's own."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM

from app.training import card_attention, primitives
from app.training.attention import LONGEST, NAME, attend, causal_attention, choose_attention


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


def measure_errors(heads: tuple[int, int], length: int, width: int, *, products: bool) -> list[float]:
    """Return the relative errors of the output and of the gradients of queries, keys and values, in bfloat16."""
    torch.manual_seed(0)
    shapes = [(2, heads[0], length, width), (2, heads[1], length, width), (2, heads[1], length, width)]
    inputs = [torch.randn(shape).bfloat16().requires_grad_() for shape in shapes]
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    with pytest.MonkeyPatch.context() as patch:
        if products:
            patch.setattr(primitives, "takes_attention_kernel", lambda _: False)
        ours = attend(*inputs, 0.3)
    pull = torch.randn_like(ours)
    mine = [ours, *torch.autograd.grad(ours, inputs, pull)]
    key, value = (tensor.repeat_interleave(heads[0] // heads[1], 1) for tensor in exact[1:])
    hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
    weights = (exact[0] @ key.transpose(2, 3) * 0.3).masked_fill(hidden, float("-inf")).softmax(-1)
    reference = [weights @ value]
    reference += torch.autograd.grad(reference[0], exact, pull.double())
    return [float((a.double() - b).detach().norm() / b.detach().norm()) for a, b in zip(mine, reference, strict=True)]


@pytest.mark.usefixtures("compiled_products")
@pytest.mark.parametrize(
    ("heads", "length", "width"),
    [
        ((6, 2), 7, 64),
        ((9, 3), 33, 64),
        ((9, 3), 100, 64),
        ((4, 4), 128, 80),
        ((2, 1), 257, 128),
        ((3, 3), 50, 40),
        ((2, 2), 530, 64),
    ],
)
def test_the_kernel_is_nearer_to_exact_attention_than_the_products_are(heads: tuple[int, int], length: int, width: int) -> None:
    kernel = measure_errors(heads, length, width, products=False)
    products = measure_errors(heads, length, width, products=True)
    assert all(mine <= theirs for mine, theirs in zip(kernel, products, strict=True)), (kernel, products)
    assert max(kernel) < 6e-3


@pytest.mark.usefixtures("compiled_products")
def test_the_kernel_s_results_do_not_depend_on_the_threads() -> None:
    torch.manual_seed(0)
    query = torch.randn(3, 6, 70, 64).bfloat16().requires_grad_()
    key, value = (torch.randn(3, 2, 70, 64).bfloat16().requires_grad_() for _ in range(2))
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            out = attend(query, key, value, 0.125)
            found.append([out, *torch.autograd.grad(out, (query, key, value), torch.ones_like(out))])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


@pytest.mark.usefixtures("compiled_products")
def test_a_number_that_is_none_comes_out_of_the_kernel() -> None:
    query, key, value = (torch.randn(1, 2, 40, 64).bfloat16() for _ in range(3))
    key[0, 0, 5, 3] = float("nan")
    out = attend(query, key, value, 0.125)
    assert out[0, 0, 5:].isnan().all()
    assert not out[0, 0, :5].isnan().any()
    assert not out[0, 1].isnan().any()


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
    assert choose_attention(config, "cuda") == card_attention.NAME
    config.sliding_window = 128
    assert choose_attention(config, "cpu") is choose_attention(config, "cuda") is None
    config.sliding_window = None
    config.model_type = "gemma2"
    assert choose_attention(config, "cpu") is choose_attention(config, "cuda") is None
