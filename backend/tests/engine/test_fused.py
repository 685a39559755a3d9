"""The functions of a fused block against the same formulas in torch's own operations, in fp64."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from app.contracts.job import Lora
from app.training.attention import choose_attention
from app.training.blocks import FusedBlock, fuse_blocks
from app.training.fused import AddedProduct, GatedProduct, NormedProducts, RotatedHeads, SharedInput
from app.training.lora import LoraLayer, attach
from tests.engine.tiny import GPT2_TARGETS, LLAMA_TARGETS

TOKENS, WIDTH, RANK = 12, 8, 3


def linear(outputs: int, *, bias: bool = False, inputs: int = WIDTH) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=bias).double().requires_grad_(False)


def adapted(outputs: int, *, bias: bool = False, rank: int = RANK) -> LoraLayer:
    layer = LoraLayer(linear(outputs, bias=bias), rank, scale=1.5, dropout=0.0).double()
    nn.init.normal_(layer.lora_B)
    return layer


def random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def assert_same(ours: Tensor, plain: Tensor, inputs: list[Tensor]) -> None:
    """Compare outputs, and gradients under a random pull."""
    assert torch.allclose(ours, plain, rtol=1e-10, atol=1e-12)
    pull = torch.randn_like(plain)
    pairs = zip(torch.autograd.grad(ours, inputs, pull), torch.autograd.grad(plain, inputs, pull), strict=True)
    for mine, reference in pairs:
        assert (mine - reference).norm() <= 1e-9 * reference.norm()


def plain_layer(layer: nn.Module, x: Tensor) -> Tensor:
    if not isinstance(layer, LoraLayer):
        return layer(x)
    base = F.linear(x, layer.wrapped.weight, layer.wrapped.bias)
    return base + layer.scale * (x @ layer.lora_A.t() @ layer.lora_B.t())


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [adapted(6), adapted(4), adapted(4)],
        lambda: [adapted(6, bias=True), linear(4), adapted(4, bias=True, rank=2)],
        lambda: [linear(5), linear(5)],
    ],
    ids=["all adapted", "some adapted, some with a bias", "none adapted"],
)
def test_normed_products_equal_norm_and_layers(layers: object) -> None:
    torch.manual_seed(0)
    modules = layers()
    x, weight = random(TOKENS, WIDTH), random(WIDTH).detach()
    normed = x * (x.pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt() * weight
    shared = SharedInput(modules)
    ours = NormedProducts.apply(x, weight, 1e-5, shared, *shared.parameters())
    plain = torch.cat([plain_layer(module, normed) for module in modules], -1)
    # The last columns are the function's own: whoever uses the product sends no gradient for them.
    full = torch.cat([plain, torch.zeros(TOKENS, shared.rank, dtype=torch.float64)], -1)
    assert torch.allclose(ours[:, : shared.outputs], plain, rtol=1e-10)
    pull = torch.randn_like(plain)
    inputs = [x, *shared.parameters()]
    widened = torch.cat([pull, torch.full_like(full[:, shared.outputs :], torch.nan)], -1)
    mine = torch.autograd.grad(ours, inputs, widened)
    for one, reference in zip(mine, torch.autograd.grad(plain, inputs, pull), strict=True):
        assert (one - reference).norm() <= 1e-9 * reference.norm()


def test_layers_keep_working_when_their_weights_are_shared() -> None:
    torch.manual_seed(0)
    modules = [adapted(6), linear(4, bias=True)]
    x = random(TOKENS, WIDTH)
    before = [module(x) for module in modules]
    shared = SharedInput(modules)
    assert all(torch.equal(module(x), old) for module, old in zip(modules, before, strict=True))
    assert modules[0].wrapped.weight.data_ptr() == shared.matrix.data_ptr()


def test_rotated_heads_equal_those_of_transformers() -> None:
    torch.manual_seed(0)
    rows, length, counts, width = 2, 6, (4, 2), 8
    y = random(rows * length, (4 + 2 * 2) * width + 5)
    angles = torch.randn(1, length, width // 2, dtype=torch.float64).repeat(1, 1, 2)
    cos, sin = angles.cos(), angles.sin()
    ours = RotatedHeads.apply(y, cos, sin, rows, counts)
    cut = y[:, :-5].view(rows, length, -1, width).transpose(1, 2)
    q, k, v = cut[:, :4], cut[:, 4:6], cut[:, 6:]
    plain = (*apply_rotary_pos_emb(q, k, cos, sin), v)
    pulls = [torch.randn_like(part) for part in plain]
    for mine, reference in zip(ours, plain, strict=True):
        assert torch.allclose(mine, reference, rtol=1e-12)
    (grad,) = torch.autograd.grad(ours, y, pulls)
    (expected,) = torch.autograd.grad(plain, y, pulls)
    assert torch.allclose(grad[:, :-5], expected[:, :-5], rtol=1e-10)


def test_gated_product_equals_silu_times_up() -> None:
    torch.manual_seed(0)
    y = random(TOKENS, 2 * WIDTH + 3)
    ours = GatedProduct.apply(y, WIDTH)
    plain = F.silu(y[:, :WIDTH]) * y[:, WIDTH : 2 * WIDTH]
    assert torch.allclose(ours, plain, rtol=1e-12)
    pull = torch.randn_like(plain)
    (grad,), (expected,) = torch.autograd.grad(ours, y, pull), torch.autograd.grad(plain, y, pull)
    assert torch.allclose(grad[:, : 2 * WIDTH], expected[:, : 2 * WIDTH], rtol=1e-10)


def test_added_product_equals_residual_plus_layer() -> None:
    torch.manual_seed(0)
    x, residual, layer = random(TOKENS, WIDTH), random(TOKENS, 5), adapted(5)
    ours = AddedProduct.apply(residual, x, layer.wrapped.weight, layer.lora_A, layer.lora_B, layer.scale)
    assert_same(ours, residual + plain_layer(layer, x), [residual, x, layer.lora_A, layer.lora_B])
    bare = AddedProduct.apply(residual, x, layer.wrapped.weight, None, None, 0.0)
    assert_same(bare, residual + layer.wrapped(x), [residual, x])


@pytest.mark.parametrize(
    ("name", "dropout", "expected"), [("llama", 0.0, 2), ("qwen2", 0.0, 2), ("llama", 0.1, 0), ("gpt2", 0.0, 0)]
)
def test_known_blocks_without_dropout_are_fused(name: str, dropout: float, expected: int, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(name)
    attention = choose_attention(AutoConfig.from_pretrained(folder), "cpu")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention)
    targets = GPT2_TARGETS if name == "gpt2" else LLAMA_TARGETS
    attach(model, Lora(rank=2, alpha=2, dropout=dropout, target_modules=targets, fan_in_fan_out=False))
    assert fuse_blocks(model) == expected
    assert sum(isinstance(module, FusedBlock) for module in model.modules()) == expected
