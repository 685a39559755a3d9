"""Micro-batches side by side: whoever is first, the result is the same; a failure of one ends the step."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from app.contracts.events import Noted
from app.core.errors import OutOfHostMemory
from app.core.messages import LANGUAGES, localise
from app.training import gradient as gradient_module
from app.training.assembly import find_gradient
from app.training.dropout import draw_seeds, drop, masks_from
from app.training.engine import train
from app.training.gradient import Limits
from app.training.lanes import Lanes
from app.training.stopping import StopWatch
from tests.engine.test_engine import StopAfter, adapter, steps_of
from tests.engine.test_reference import ROWS, Way, make_computer
from tests.engine.tiny import encode, examples, make_job


def test_results_come_in_the_order_of_the_parts_though_the_first_is_the_last_to_end() -> None:
    ended: list[int] = []
    second_ended = threading.Event()

    def work(part: int) -> int:
        if part == 0:
            second_ended.wait()
        ended.append(part)
        if part == 1:
            second_ended.set()
        return part * part

    assert list(Lanes(2, 2).run(work, range(4))) == [0, 1, 4, 9]
    assert ended[0] == 1


def test_an_error_ends_what_was_not_begun_and_the_lanes_work_on() -> None:
    lanes, begun = Lanes(2, 2), []

    def work(part: int) -> int:
        begun.append(part)
        if part == 0:
            raise MemoryError
        return part

    with pytest.raises(MemoryError):
        list(lanes.run(work, range(100)))
    assert len(begun) < 100
    assert list(lanes.run(lambda part: part, range(3))) == [0, 1, 2]


def test_threads_are_shared_among_the_lanes_and_given_back() -> None:
    before = torch.get_num_threads()
    try:
        assert list(Lanes(2, 4).run(lambda _: torch.get_num_threads(), range(3))) == [2, 2, 2]
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_gradient_is_the_same_to_the_last_bit_whoever_is_first(
    dropout: float, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_dir = make_job(tmp_path / "job", llama, train=examples(ROWS), heldout=[], dropout=dropout)
    compute = make_computer(job_dir, Way(Limits(2, None, lanes=2)), torch.float32, monkeypatch)
    rows = encode(job_dir).rows
    gradients = []
    for slow in (0, 1):
        turns = iter(range(1000))
        other_done = threading.Event()

        def compute_late(
            *arguments: object, turns: Iterator[int] = turns, slow: int = slow, done: threading.Event = other_done
        ) -> object:
            turn = next(turns)
            if turn == slow:
                done.wait()
            found = find_gradient(*arguments)  # type: ignore[arg-type]
            if turn == 1 - slow:
                done.set()
            return found

        monkeypatch.setattr(gradient_module, "find_gradient", compute_late)
        for parameter in compute.parameters:
            parameter.grad = None
        torch.manual_seed(3)
        compute.accumulate_gradient(rows)
        gradients.append([parameter.grad.clone() for parameter in compute.parameters if parameter.grad is not None])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_resumed_run_cuts_its_rows_as_before_on_a_machine_with_fewer_cores(
    dropout: float, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"train": examples(24), "heldout": [], "dropout": dropout}
    whole, stopped = (make_job(tmp_path / name, llama, **options) for name in ("whole", "stopped"))  # type: ignore[arg-type]
    monkeypatch.setattr("app.training.engine.use_physical_cores", lambda: 2)
    train(whole, StopWatch(whole))
    with pytest.raises(Exception, match="paused"):
        train(stopped, StopAfter(stopped, 2, stopped.pause_file))
    stopped.pause_file.unlink()
    monkeypatch.setattr("app.training.engine.use_physical_cores", lambda: 1)
    train(stopped, StopWatch(stopped))
    assert [event.loss for event in steps_of(stopped)] == [event.loss for event in steps_of(whole)]
    assert all(torch.equal(adapter(stopped)[key], value) for key, value in adapter(whole).items())


def test_masks_belong_to_a_micro_batch_and_a_layer_and_not_to_a_thread() -> None:
    x = torch.ones(500, 100)

    def draw(layer: int) -> torch.Tensor:
        with masks_from(11):
            return drop(x, 0.25, layer)

    first = draw(0)
    assert (first == 0).double().mean() == pytest.approx(0.25, abs=0.01)
    assert torch.equal(first.unique(), torch.tensor([0.0, 1 / 0.75]))
    before = torch.get_rng_state()
    assert all(torch.equal(found, first) for found in Lanes(2, 4).run(lambda _: draw(0), range(4)))
    assert torch.equal(torch.get_rng_state(), before)
    assert ((draw(1) == 0) & (first == 0)).double().mean() == pytest.approx(0.25**2, abs=0.01)
    assert draw_seeds(2) != draw_seeds(2)


def test_where_one_row_on_each_lane_is_too_much_the_lanes_are_closed(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_dir = make_job(tmp_path / "job", llama, train=examples(4), heldout=[])
    compute = make_computer(job_dir, Way(Limits(1, None, lanes=2)), torch.float32, monkeypatch)
    monkeypatch.setattr(gradient_module, "find_gradient", run_out)
    compute.accumulate_gradient(encode(job_dir).rows)
    assert compute.limits.lanes == 1
    closed = [event for event in job_dir.read_events() if isinstance(event, Noted) and event.key == "lanes_closed"]
    assert len(closed) == 1
    assert all(localise("lanes_closed", language)[0] != "lanes_closed" for language in LANGUAGES)
    monkeypatch.setattr(gradient_module, "add_gradient", run_out)
    with pytest.raises(OutOfHostMemory):
        compute.accumulate_gradient(encode(job_dir).rows)


def run_out(*_: object) -> None:
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: 1048576 bytes")
