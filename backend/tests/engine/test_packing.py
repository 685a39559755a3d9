"""Packed micro-batches: rows without padding, what they begin with only once. The same loss and gradient as padded ones."""

import pytest
import torch
from transformers import GPT2Config, LlamaConfig, PhiConfig, PreTrainedConfig, Qwen2Config, Qwen3Config

from app.contracts.hardware import DeviceKind
from app.contracts.job import Lora
from app.training.assembly import Trainable, add_gradient, assemble, build_unloaded
from app.training.batching import Row, collate, count_shared

CPU = torch.device("cpu")
SIZES = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
CONFIGS: list[tuple[PreTrainedConfig, list[str]]] = [
    (LlamaConfig(**SIZES, num_key_value_heads=2, max_position_embeddings=600), ["q_proj", "v_proj", "o_proj", "gate_proj"]),
    (Qwen2Config(**SIZES, num_key_value_heads=2), ["q_proj", "k_proj", "down_proj"]),
    (Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=16), ["q_proj", "v_proj"]),
    (PhiConfig(**SIZES), ["q_proj", "v_proj", "fc1"]),
    (
        GPT2Config(vocab_size=300, n_embd=64, n_layer=2, n_head=4, n_positions=600, bos_token_id=0, eos_token_id=0),
        ["c_attn", "c_proj"],
    ),
]


def build(config: PreTrainedConfig, targets: list[str], *, checkpointing: bool, kind: DeviceKind = "cpu") -> Trainable:
    torch.manual_seed(0)
    model = build_unloaded(config, device=CPU, kind=kind, dtype="float64", checkpointing=checkpointing)  # type: ignore[arg-type]
    built = assemble(model, Lora(rank=4, alpha=8, dropout=0.0, target_modules=targets, fan_in_fan_out=False), kind=kind)
    for parameter in built.parameters:
        torch.nn.init.normal_(parameter, std=0.05)
    return built


def gradient(built: Trainable, rows: list[Row], *, packed: bool) -> tuple[float, list[torch.Tensor]]:
    for parameter in built.parameters:
        parameter.grad = None
    loss = add_gradient(built.head, collate(rows, 0, CPU, 600, packed=packed)).item()
    return loss, [parameter.grad.clone() for parameter in built.parameters if parameter.grad is not None]


def make_rows(longest: int, prefix: list[int]) -> list[Row]:
    numbers = torch.Generator().manual_seed(1)
    rows = []
    for own in (longest, longest - 3, 7, 1):
        ids = prefix + torch.randint(10, 300, (own,), generator=numbers).tolist()
        # Some of what is shared is learned as well, by each row.
        rows.append(Row(ids, list(range(max(1, len(prefix) - 2), len(ids)))))
    return rows


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("prefix", [[], [5, 6, 7, 8, 9]], ids=["nothing shared", "shared"])
@pytest.mark.parametrize(("config", "targets"), CONFIGS, ids=[config.model_type for config, _ in CONFIGS])
def test_packed_rows_give_the_loss_and_the_gradients_of_padded_rows(
    config: PreTrainedConfig, targets: list[str], prefix: list[int], checkpointing: bool
) -> None:
    built = build(config, targets, checkpointing=checkpointing)
    assert built.head.packs
    for longest in (20, 570):  # plain products, and PyTorch's attention
        rows = make_rows(longest, prefix)
        assert count_shared(rows) == len(prefix)
        loss, gradients = gradient(built, rows, packed=True)
        expected, wanted = gradient(built, rows, packed=False)
        assert loss == pytest.approx(expected, rel=1e-6)
        for ours, theirs in zip(gradients, wanted, strict=True):
            assert (ours - theirs).norm() <= 1e-6 * theirs.norm()


def test_a_row_does_not_see_its_neighbours() -> None:
    config, targets = CONFIGS[0]
    built = build(config, targets, checkpointing=False)
    rows = make_rows(20, [5, 6, 7])
    other = [rows[0], *(Row([*row.ids[:3], *(299 - id_ % 200 for id_ in row.ids[3:])], []) for row in rows[1:])]
    quiet = [rows[0], *(Row(row.ids, []) for row in rows[1:])]
    assert gradient(built, other, packed=True)[0] == pytest.approx(gradient(built, quiet, packed=True)[0], rel=1e-9)


def test_a_row_that_is_the_beginning_of_another_keeps_one_token_of_its_own() -> None:
    config, targets = CONFIGS[0]
    built = build(config, targets, checkpointing=False)
    long = make_rows(20, [5, 6, 7])[0]
    rows = [long, Row(long.ids[:6], [4, 5]), Row(long.ids[:6], [3])]
    assert count_shared(rows) == 5
    assert gradient(built, rows, packed=True)[0] == pytest.approx(gradient(built, rows, packed=False)[0], rel=1e-6)
