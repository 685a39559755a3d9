"""The halves of a fused block against the same formulas in torch's own operations: in fp64, and the compiled kernels in fp32."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
from transformers.pytorch_utils import Conv1D

from app.contracts.job import Lora
from app.training.attention import choose_attention
from app.training.blocks import FusedBlock, fuse_blocks
from app.training.fused import AddedHeads, Heads, Mlp, Norm, NormedProducts
from app.training.lora import LoraLayer, attach, note_change
from app.training.stacked import Narrowing, Widening
from tests.engine.tiny import GPT2_TARGETS, LLAMA_TARGETS

TOKENS, WIDTH, RANK = 12, 8, 3


@pytest.fixture(params=[torch.float64, torch.float32], ids=["operators", "kernels"])
def kind(request: pytest.FixtureRequest) -> torch.dtype:
    """The precision: fp64 goes through PyTorch's operators, fp32 through the kernels where they were compiled."""
    return request.param


def linear(outputs: int, kind: torch.dtype, *, bias: bool = False, inputs: int = WIDTH) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=bias).to(kind).requires_grad_(False)


def adapted(outputs: int, kind: torch.dtype, *, bias: bool = False, rank: int = RANK, inputs: int = WIDTH) -> LoraLayer:
    layer = LoraLayer(linear(outputs, kind, bias=bias, inputs=inputs), rank, scale=1.5, dropout=0.0).to(kind)
    nn.init.normal_(layer.lora_B)
    return layer


def random(kind: torch.dtype, *shape: int) -> Tensor:
    return torch.randn(shape, dtype=kind, requires_grad=True)


def assert_same(ours: Tensor, plain: Tensor, inputs: list[Tensor]) -> None:
    """Compare outputs, and gradients under a random pull."""
    near = 1e-9 if plain.dtype == torch.float64 else 2e-6
    assert (ours - plain).norm() <= near * plain.norm()
    pull = torch.randn_like(plain)
    pairs = zip(torch.autograd.grad(ours, inputs, pull), torch.autograd.grad(plain, inputs, pull), strict=True)
    for mine, reference in pairs:
        assert (mine - reference).norm() <= near * reference.norm()


def plain_layer(layer: nn.Module, x: Tensor) -> Tensor:
    if not isinstance(layer, LoraLayer):
        return layer(x)
    return layer.wrapped(x) + layer.scale * (x @ layer.lora_A.t() @ layer.lora_B.t())


def plain_norm(x: Tensor, norm: Norm) -> Tensor:
    if norm.bias is not None:
        return F.layer_norm(x, [x.shape[-1]], norm.weight, norm.bias, norm.eps)
    return x * (x.pow(2).mean(-1, keepdim=True) + norm.eps).rsqrt() * norm.weight


def norm_of(kind: torch.dtype, *, layer: bool) -> Norm:
    return Norm(random(kind, WIDTH).detach(), random(kind, WIDTH).detach() if layer else None, 1e-5)


@pytest.mark.parametrize(
    "layers",
    [
        lambda kind: [adapted(6, kind), adapted(4, kind), adapted(4, kind)],
        lambda kind: [adapted(6, kind, bias=True), linear(4, kind), adapted(4, kind, bias=True, rank=2)],
        lambda kind: [linear(5, kind), linear(5, kind)],
    ],
    ids=["all adapted", "some adapted, some with a bias", "none adapted"],
)
@pytest.mark.parametrize("layer_norm", [False, True])
def test_normed_products_equal_norm_and_layers_and_hand_the_residual_on(
    layers: object, layer_norm: bool, kind: torch.dtype
) -> None:
    torch.manual_seed(0)
    modules, norm = layers(kind), norm_of(kind, layer=layer_norm)
    x = random(kind, TOKENS, WIDTH)
    plain = torch.cat([plain_layer(module, plain_norm(x, norm)) for module in modules], -1)
    shared = Widening(modules)
    ours, residual = NormedProducts.apply(x, norm, shared, *shared.parameters())
    both, reference = torch.cat([ours, residual.sin()], -1), torch.cat([plain, x.sin()], -1)
    assert_same(both, reference, [x, *shared.parameters()])


def test_layers_keep_working_when_their_weights_are_stacked(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    modules, conv = [adapted(6, kind), linear(4, kind, bias=True)], Conv1D(5, WIDTH).to(kind).requires_grad_(False)
    x = random(kind, TOKENS, WIDTH)
    before = [module(x) for module in (*modules, conv)]
    stacks = [Widening(modules), Narrowing(conv)]
    assert all(torch.allclose(module(x), old) for module, old in zip((*modules, conv), before, strict=True))
    assert modules[0].wrapped.weight.data_ptr() == stacks[0].matrix.data_ptr()
    assert conv.weight.data_ptr() == stacks[1].matrix.data_ptr()


def test_an_optimizer_s_step_reaches_the_stacked_matrices(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = adapted(5, kind)
    stack, x = Narrowing(layer), random(kind, TOKENS, WIDTH)
    residual = random(kind, TOKENS, 5)
    stack.add(residual, x)
    optimizer = torch.optim.AdamW([layer.lora_A, layer.lora_B], lr=0.1, fused=True)
    layer.lora_A.grad, layer.lora_B.grad = torch.ones_like(layer.lora_A), torch.ones_like(layer.lora_B)
    optimizer.step()
    note_change()
    assert torch.allclose(stack.add(residual, x)[0], residual + plain_layer(layer, x), rtol=1e-4, atol=1e-5)


def test_heads_equal_those_of_transformers(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    rows, length, counts = 2, 6, (4, 2, 8)
    y = random(kind, rows * length, (4 + 2 * 2) * 8)
    angles = torch.randn(1, length, 4, dtype=kind).repeat(1, 1, 2)
    cos, sin = angles.cos(), angles.sin()
    ours = Heads.apply(y, rows, counts, None, cos, sin)
    cut = y.view(rows, length, -1, 8).transpose(1, 2)
    q, k, v = cut[:, :4], cut[:, 4:6], cut[:, 6:]
    plain = (*apply_rotary_pos_emb(q, k, cos, sin), v)
    assert_same(torch.cat([part.flatten() for part in ours]), torch.cat([part.flatten() for part in plain]), [y])


@pytest.mark.parametrize("form", ["gated", "gelu"])
@pytest.mark.parametrize("bare", [False, True], ids=["adapted", "not adapted"])
def test_the_mlp_equals_its_formula(form: str, bare: bool, kind: torch.dtype) -> None:
    torch.manual_seed(0)
    make = linear if bare else adapted
    x, norm = random(kind, TOKENS, WIDTH), norm_of(kind, layer=form == "gelu")
    ups = [make(16, kind), make(16, kind)] if form == "gated" else [make(16, kind, bias=True)]
    down = make(WIDTH, kind, inputs=16, bias=form == "gelu")
    normed = plain_norm(x, norm)
    if form == "gated":
        active = F.silu(plain_layer(ups[0], normed)) * plain_layer(ups[1], normed)
    else:
        active = F.gelu(plain_layer(ups[0], normed), approximate="tanh")
    plain = x + plain_layer(down, active)
    up, narrow = Widening(ups), Narrowing(down)
    parameters = [*up.parameters(), *narrow.parameters()]
    assert_same(Mlp.apply(x, norm, up, form, narrow, *parameters), plain, [x, *parameters])


def test_added_heads_equal_residual_plus_layer(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    rows, length = 2, 6
    heads, residual, layer = random(kind, rows, 2, length, 4), random(kind, rows * length, 5), adapted(5, kind, bias=True)
    plain = residual + plain_layer(layer, heads.transpose(1, 2).reshape(rows * length, 8))
    narrow = Narrowing(layer)
    ours = AddedHeads.apply(residual, heads, None, narrow, *narrow.parameters())
    assert_same(ours, plain, [residual, heads, *narrow.parameters()])


@pytest.mark.parametrize(
    ("name", "dropout", "expected"),
    [("llama", 0.0, 2), ("qwen2", 0.0, 2), ("gpt2", 0.0, 2), ("llama", 0.1, 0), ("gpt2", 0.1, 0)],
)
def test_known_blocks_without_dropout_are_fused(name: str, dropout: float, expected: int, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(name)
    attention = choose_attention(AutoConfig.from_pretrained(folder), "cpu")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention)
    targets = GPT2_TARGETS if name == "gpt2" else LLAMA_TARGETS
    attach(model, Lora(rank=2, alpha=2, dropout=dropout, target_modules=targets, fan_in_fan_out=False))
    assert fuse_blocks(model) == expected
    assert sum(isinstance(module, FusedBlock) for module in model.modules()) == expected
