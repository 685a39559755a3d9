"""AdamW with moments in eight bits: as good as in fp32, a quarter of the memory, the same after a pause."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from app.planner.moments import count_moment_bytes, takes_eight_bits
from app.training import eight_bit
from app.training.checkpoint import list_checkpoints
from app.training.eight_bit import BLOCK, EightBitAdamW, list_shares
from app.training.engine import train
from app.training.stopping import Stopped, StopWatch
from tests.engine.test_engine import StopAfter, adapter, steps_of
from tests.engine.tiny import examples, make_job

SHAPES = ((40, 96), (96, 7), (300,))


def make_parameters() -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(0.1 * torch.randn(shape)) for shape in SHAPES]


def take_steps(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], count: int) -> None:
    """Gradients of very different sizes, the same for every optimizer."""
    for step in range(count):
        draw = torch.Generator().manual_seed(step)
        for parameter in parameters:
            sizes = torch.logspace(-4, 0, parameter.numel()).view_as(parameter)
            parameter.grad = sizes * (0.3 + torch.randn(parameter.shape, generator=draw))
        optimizer.step()


@pytest.mark.parametrize("signed", [True, False])
def test_a_share_is_kept_as_the_nearest_of_256(signed: bool) -> None:
    shares = torch.tensor(list_shares(signed=signed))
    assert len(shares) == 256
    assert bool((shares.diff() > 0).all())
    assert shares[-1] == 1 and 0 in shares
    assert not signed or torch.equal(shares[:-1], -shares[:-1].flip(0))
    torch.manual_seed(1)
    moments = torch.randn(8, BLOCK) if signed else torch.randn(8, BLOCK).square()
    state = {"m": torch.zeros(8, BLOCK, dtype=torch.uint8), "m_largest": torch.zeros(8)}
    eight_bit._narrow(moments.clone(), [state], "m", signed=signed)
    kept = eight_bit._widen([state], "m", signed=signed)
    largest = moments.abs().amax(1, keepdim=True)
    offered = shares if signed else shares[1:]  # no second moment becomes zero
    nearest = offered[(moments[..., None] / largest[..., None] - offered).abs().argmin(-1)] * largest
    assert torch.allclose(kept, nearest)
    assert (kept - moments).norm() < 0.02 * moments.norm()


def test_parameters_move_as_with_adamw_in_fp32() -> None:
    """In the last one gradients of a block differ by four orders of magnitude. There bitsandbytes' optimizer, which lets small
    second moments become zero, ends 6 times as far away as the parameters moved; in the others it is as near as ours."""
    ours, theirs = make_parameters(), make_parameters()
    take_steps(EightBitAdamW(ours, lr=1e-2, weight_decay=0.1), ours, 50)
    take_steps(torch.optim.AdamW(theirs, lr=1e-2, weight_decay=0.1), theirs, 50)
    for mine, other, start, limit in zip(ours, theirs, make_parameters(), (0.03, 0.05, 0.15), strict=True):
        assert (mine - other).norm() < limit * (other - start).norm()


def test_both_moments_take_what_the_planner_counts() -> None:
    parameter = nn.Parameter(torch.zeros(64, 4 * BLOCK))
    optimizer = EightBitAdamW([parameter], lr=1e-2, weight_decay=0.0)
    held = sum(value.nbytes for value in optimizer.state[parameter].values())
    assert (
        held - 4 == count_moment_bytes("cuda", "nf4", parameter.numel()) < count_moment_bytes("cpu", "nf4", parameter.numel()) / 3
    )


def test_how_many_parameters_are_wide_at_the_same_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut = make_parameters(), make_parameters()
    take_steps(EightBitAdamW(whole, lr=1e-2, weight_decay=0.1), whole, 5)
    monkeypatch.setattr(eight_bit, "TOGETHER", 700)
    take_steps(EightBitAdamW(cut, lr=1e-2, weight_decay=0.1), cut, 5)
    assert all(torch.equal(one, other) for one, other in zip(whole, cut, strict=True))


def test_a_tiny_gradient_beside_large_ones_does_not_make_a_leap() -> None:
    """Its second moment is far below the smallest share of its block's largest: as zero it would be divided by epsilon."""
    parameter = nn.Parameter(torch.zeros(BLOCK))
    optimizer = EightBitAdamW([parameter], lr=1e-2, weight_decay=0.0)
    for _ in range(20):
        parameter.grad = torch.ones(BLOCK)
        parameter.grad[0] = 1e-5
        optimizer.step()
    assert parameter[1:].allclose(torch.tensor(-0.2), rtol=0.05)
    assert parameter[0].abs() <= parameter[1].abs()


def test_sizes_are_enough() -> None:
    """The planner's trace: on `meta` any look at a value raises."""
    parameters = [nn.Parameter(torch.empty(shape, device="meta")) for shape in SHAPES]
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    EightBitAdamW(parameters, lr=1e-2, weight_decay=0.1).step()


def test_eight_bits_are_for_cards_that_hold_weights_in_four() -> None:
    assert takes_eight_bits("cuda", "nf4")
    assert not any((takes_eight_bits("cuda", "none"), takes_eight_bits("cpu", "nf4"), takes_eight_bits("cpu", "none")))


def test_a_run_learns_and_a_paused_one_ends_the_same(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"train": examples(16), "heldout": examples(4, start=16), "num_epochs": 4, "learning_rate": 2e-2}
    plain, whole, parts = (make_job(tmp_path / name, llama, **options) for name in ("plain", "whole", "parts"))  # type: ignore[arg-type]
    expected = train(plain, StopWatch(plain))
    monkeypatch.setattr("app.training.assembly.takes_eight_bits", lambda *_: True)
    report = train(whole, StopWatch(whole))
    assert report.loss_after == pytest.approx(expected.loss_after, rel=0.02)
    with pytest.raises(Stopped):
        train(parts, StopAfter(parts, 3, parts.pause_file))
    assert len(list_checkpoints(parts.checkpoints)) == 1
    parts.pause_file.unlink()
    train(parts, StopWatch(parts))
    assert [event.loss for event in steps_of(parts)] == [event.loss for event in steps_of(whole)]
    assert all(torch.equal(tensor, adapter(whole)[key]) for key, tensor in adapter(parts).items())


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes (extra `qlora`) is not installed here")
def test_the_table_is_that_of_bitsandbytes() -> None:
    from bitsandbytes.functional import create_dynamic_map

    for signed in (True, False):
        assert torch.allclose(torch.tensor(list_shares(signed=signed)), create_dynamic_map(signed=signed))
