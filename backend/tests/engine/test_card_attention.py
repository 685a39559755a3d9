"""The attention of cards, on a processor: the same arithmetic, with a plain formula in place of FlashAttention's kernel."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedConfig

from app.storage.job_dir import JobDir
from app.training import card_attention
from app.training.assembly import Trainable, add_gradient
from app.training.attention import can_unpack
from app.training.batching import MicroBatch, Row, collate, count_shared, make_ragged, pays_to_pack
from app.training.blocks import FusedBlock
from app.training.card_attention import takes_flash
from app.training.gradient import Computer, Limits
from tests.engine.test_packing import CONFIGS, CPU, build, make_rows


def attend_row_by_row(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    starts: Tensor,
    key_starts: Tensor,
    longest: int,
    longest_key: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> Tensor:
    """What `torch.nn.attention.varlen.varlen_attn` promises."""
    assert starts.dtype == torch.int32 and window_size == (-1, 0)
    assert longest == longest_key == int(starts.diff().max()) and torch.equal(starts, key_starts)
    assert len(query) == int(starts[-1])
    assert enable_gqa is (key.shape[1] != query.shape[1])
    found = []
    for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        q, k, v = (part[start:end].transpose(0, 1)[None] for part in (query, key, value))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=enable_gqa)
        found.append(out[0].transpose(0, 1))
    return torch.cat(found)


def gradient(built: Trainable, batch: MicroBatch) -> list[Tensor]:
    """Return the loss and the gradients."""
    for parameter in built.parameters:
        parameter.grad = None
    loss = add_gradient(built.head, batch)
    return [loss, *(parameter.grad.clone() for parameter in built.parameters if parameter.grad is not None)]


def pad(rows: list[Row]) -> MicroBatch:
    return collate(rows, 0, CPU, 600)


def pack(rows: list[Row]) -> MicroBatch:
    return collate(rows, 0, CPU, 600, packed=True)


def pack_for_flash(rows: list[Row]) -> MicroBatch:
    """As a card of compute capability 8 gets it."""
    batch = pack(rows)
    assert batch.layout is not None and batch.layout.ragged is None
    ragged = make_ragged([len(row.ids) for row in rows], count_shared(rows), CPU)
    return replace(batch, layout=replace(batch.layout, ragged=ragged))


@pytest.mark.parametrize("make_batch", [pad, pack, pack_for_flash])
@pytest.mark.parametrize("prefix", [[], [5, 6, 7, 8, 9]], ids=["nothing shared", "shared"])
@pytest.mark.parametrize(("config", "targets"), CONFIGS, ids=[config.model_type for config, _ in CONFIGS])
def test_a_card_computes_what_a_processor_computes(
    config: PreTrainedConfig,
    targets: list[str],
    prefix: list[int],
    make_batch: Callable[[list[Row]], MicroBatch],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if make_batch is pack_for_flash:
        monkeypatch.setattr(card_attention, "has_flash", lambda _: True)
        monkeypatch.setattr(card_attention, "varlen_attn", attend_row_by_row)
    processor = build(config, targets, checkpointing=False)
    card = build(config, targets, checkpointing=prefix == [], kind="cuda")
    assert can_unpack(card.model) and not card.head.packs
    assert not any(isinstance(module, FusedBlock) for module in card.model.modules())
    rows = make_rows(20, prefix)
    for ours, theirs in zip(gradient(card, make_batch(rows)), gradient(processor, pad(rows)), strict=True):
        assert (ours - theirs).norm() <= 1e-6 * theirs.norm()


@pytest.mark.parametrize("flash", [True, False])
def test_heads_share_keys_only_where_the_kernel_shares_them(flash: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, heads, 9, 8, dtype=torch.float64) for heads in (6, 2, 2))
    expected = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=0.3, enable_gqa=True)
    monkeypatch.setattr(card_attention, "has_flash", lambda _: flash)
    given: list[tuple[int, bool]] = []
    attend = F.scaled_dot_product_attention

    def note(query: Tensor, key: Tensor, value: Tensor, *, enable_gqa: bool, **options: object) -> Tensor:
        given.append((key.shape[1], enable_gqa))
        return attend(query, key, value, enable_gqa=enable_gqa, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(F, "scaled_dot_product_attention", note)
    assert torch.allclose(card_attention.attend_padded(query, key, value, 0.3), expected)
    assert given == [(2, True) if flash else (6, False)]


def test_flash_attention_is_for_sixteen_bits_on_cards_from_capability_8_on() -> None:
    assert takes_flash(torch.bfloat16, 64, (8, 0)) and takes_flash(torch.float16, 256, (12, 0))
    assert not takes_flash(torch.float32, 64, (9, 0))
    assert not takes_flash(torch.float16, 64, (7, 5))
    assert not takes_flash(torch.bfloat16, 257, (9, 0))


def test_a_card_packs_what_takes_less_than_its_plan_counted_on() -> None:
    alike = [Row(list(range(place, place + 64)), [63]) for place in (0, 1)]
    uneven = [*alike, Row(list(range(500, 530)), [29])]
    short = [alike[0], Row(list(range(500, 510)), [9])]
    sharing = [Row([*range(40), *range(place, place + 24)], [63]) for place in (100, 200, 300)]
    assert not any(pays_to_pack(rows, 600, ragged=ragged) for rows in (alike, alike[:1]) for ragged in (True, False))
    assert pays_to_pack(uneven, 600, ragged=True) and not pays_to_pack(uneven, 600, ragged=False)
    assert pays_to_pack(short, 600, ragged=False)
    assert all(pays_to_pack(sharing, 600, ragged=ragged) for ragged in (True, False))


@pytest.mark.parametrize("lengths", [(64, 64), (64, 10)])
def test_a_step_on_a_card_packs_by_that_rule(lengths: tuple[int, int], tmp_path: Path) -> None:
    config, targets = CONFIGS[0]
    built = build(config, targets, checkpointing=False, kind="cuda")
    rows = [Row(list(range(10 * place, 10 * place + length)), [length - 1]) for place, length in enumerate(lengths)]
    limits = Limits(rows=2, tokens=None)
    compute = Computer(built.head, built.parameters, CPU, 0, 600, limits, JobDir(tmp_path), lambda: None)
    collated = compute._collate(rows)
    compute.accumulate_gradient(rows)
    seen = [parameter.grad.clone() for parameter in built.parameters if parameter.grad is not None]
    assert (collated.layout is None) is (lengths == (64, 64))
    for ours, theirs in zip(seen, gradient(built, pad(rows))[1:], strict=True):
        assert (ours - theirs).norm() <= 1e-6 * theirs.norm()
