"""Micro-batches of a card in buckets, computed again from recordings. Here a processor computes, and a tape stands for the graph.

The tape keeps to the rules of CUDA graphs: what was recorded is done again operator by operator, at the same addresses, with the
same numbers of Python; reading a value in between is an error.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedConfig

from app.contracts.events import Noted
from app.storage.job_dir import JobDir
from app.training import graphs as graphs_module
from app.training.assembly import Trainable, update
from app.training.batching import Row
from app.training.gradient import Computer, Limits
from app.training.graphs import MET_BEFORE, SHARES, Bucket, Graphs, choose_bucket, find_graphs
from app.training.lora import LoraLayer
from app.training.scaling import LossScale
from tests.engine.test_packing import CONFIGS, CPU, build

LONGEST = 600


class Tape(TorchDispatchMode):
    """Notes every operator, with its arguments and what it returned."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        found = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, found))
        return found

    def replay(self) -> None:
        for func, args, kwargs, found in self.calls:
            for old, new in zip(tree_leaves(found), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class TapeRecorder:
    """Records on tapes; what recording itself computes is undone."""

    def __init__(self, graphs: Callable[[], Graphs]) -> None:
        self.graphs, self.records = graphs, 0
        self.roomy = True

    def has_room(self) -> bool:
        return self.roomy

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        self.records += 1
        kept = [*self.graphs()._gradients, self.graphs()._loss]
        before, state = [tensor.clone() for tensor in kept], torch.get_rng_state()
        tape = Tape()
        with tape:
            work()
        torch.set_rng_state(state)
        for tensor, value in zip(kept, before, strict=True):
            tensor.copy_(value)

        def replay() -> None:
            with torch.no_grad():
                tape.replay()

        return replay


class Failing(TapeRecorder):
    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        self.records += 1
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nCUDA kernel errors might be...")


def make(
    config: PreTrainedConfig,
    targets: list[str],
    folder: Path,
    *,
    recorder: type[TapeRecorder] = TapeRecorder,
    rows: int = 3,
    dropout: float = 0.0,
) -> tuple[Trainable, Computer, Computer]:
    """Return a model as a card gets it, what computes its micro-batches in buckets, and what computes them plainly."""
    built = build(config, targets, checkpointing=False, kind="cuda")
    for module in built.model.modules():
        if isinstance(module, LoraLayer):
            module.dropout = dropout
    said = JobDir(folder)
    made: list[Graphs] = []
    graphs = Graphs(
        built.head, built.parameters, CPU, 0, LONGEST, recorder(lambda: made[0]),
        lambda reason: said.append(Noted(level="info", key="graphs_closed", params={"reason": reason})),
    )  # fmt: skip
    made.append(graphs)
    limits = Limits(rows=rows, tokens=None)

    def computer(graphs: Graphs | None) -> Computer:
        return Computer(
            built.head, built.parameters, CPU, 0, LONGEST, limits, said, lambda: None, LossScale(), graphs=graphs
        )  # fmt: skip

    return built, computer(graphs), computer(None)


def draw(number: int, lengths: list[int], prompt: int = 3) -> list[Row]:
    """Return random rows of these lengths; number tells them from others."""
    generator = torch.Generator().manual_seed(number)
    return [
        Row(torch.randint(10, 300, (length,), generator=generator).tolist(), list(range(prompt + number % 3, length)))
        for length in lengths
    ]


def take(compute: Computer, rows: list[Row]) -> list[Tensor]:
    """Return the loss and the gradients of one step."""
    for parameter in compute.parameters:
        parameter.grad = None
    loss = compute.accumulate_gradient(rows)
    return [torch.tensor(loss), *(parameter.grad.clone() for parameter in compute.parameters if parameter.grad is not None)]


def assert_alike(found: list[Tensor], expected: list[Tensor], tolerance: float = 1e-6) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).norm() <= tolerance * theirs.norm()


def test_a_bucket_holds_its_rows_with_little_padding() -> None:
    seen = set()
    for length in range(2, 2049):
        rows = [Row([1] * length, list(range(length // 3 + 1, length))), Row([1] * 2, [1])]
        bucket = choose_bucket(rows, 2048)
        assert bucket.rows == 2 and length <= bucket.length <= 2048
        assert bucket.length - length < max(64, bucket.length / 4)
        assert sum(len(row.targets) for row in rows) <= bucket.targets <= bucket.tokens + SHARES
        seen.add(bucket.length)
    assert len(seen) <= 3 * SHARES
    assert choose_bucket([Row([1] * 90, [89])], 100).length == 100


@pytest.mark.parametrize(("config", "targets"), CONFIGS, ids=[config.model_type for config, _ in CONFIGS])
def test_recordings_give_the_loss_and_the_gradients_of_the_rows(
    config: PreTrainedConfig, targets: list[str], tmp_path: Path
) -> None:
    """Of other rows than those that were recorded, of other lengths in the bucket, and after the adapter has changed."""
    built, compute, plain = make(config, targets, tmp_path)
    assert compute.graphs is not None
    for number in range(MET_BEFORE + 4):
        rows = draw(number, [50 + number, 41, 7 + number])
        expected = take(plain, rows)
        assert_alike(take(compute, rows), expected)
        assert compute.graphs.recorded == (number >= MET_BEFORE)
        update(built.optimizer, 1e-2)
    assert len(compute.graphs._slots) == 1


def test_micro_batches_of_all_kinds_add_up_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded ones, one that is met for the first time, and one that is too large to be bound by launches."""
    config, targets = CONFIGS[0]
    built, compute, plain = make(config, targets, tmp_path, rows=2)
    assert compute.graphs is not None
    size = sum(parameter.numel() for parameter in built.model.parameters())
    monkeypatch.setattr(graphs_module, "LAUNCH_BOUND", size * 2 * 256)
    for number in range(MET_BEFORE + 2):
        compute.accumulate_gradient(draw(number, [60, 50]))
    assert [slot.proven for slot in compute.graphs._slots.values()] == [True]
    rows = draw(4, [500, 480, 200, 190, 60, 50, 40, 30])
    assert not compute.graphs.takes(rows[:2]) and compute.graphs.takes(rows[2:4])
    compute.scale.value = 8.0
    loss, *gradients = take(compute, rows)
    compute.scale.value = 1.0
    assert_alike([loss, *(gradient / 8 for gradient in gradients)], take(plain, rows))


def test_gradients_that_are_there_are_added_to(tmp_path: Path) -> None:
    config, targets = CONFIGS[0]
    _, compute, plain = make(config, targets, tmp_path)
    rows, more = draw(1, [60, 50]), draw(2, [61, 49])
    first, second = take(plain, rows), take(plain, more)
    take(plain, rows)  # leaves its gradients
    compute.accumulate_gradient(more)
    compute.accumulate_gradient(more)
    found = [parameter.grad for parameter in compute.parameters if parameter.grad is not None]
    assert_alike(found, [one + 2 * other for one, other in zip(first[1:], second[1:], strict=True)])


def test_where_recording_fails_training_goes_on_and_says_so_once(tmp_path: Path) -> None:
    config, targets = CONFIGS[0]
    _, compute, plain = make(config, targets, tmp_path, recorder=Failing)
    assert compute.graphs is not None and isinstance(compute.graphs.recorder, Failing)
    for number in range(MET_BEFORE + 3):
        rows = draw(number, [60, 50])
        assert_alike(take(compute, rows), take(plain, rows))
    assert (compute.graphs.recorder.records, compute.graphs.open, compute.graphs.recorded) == (1, False, 0)
    [said] = compute.job_dir.read_events()
    assert isinstance(said, Noted) and said.key == "graphs_closed"
    assert said.params == {"reason": "CUDA error: operation not permitted when stream is capturing"}


def test_without_room_and_beyond_the_most_nothing_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, targets = CONFIGS[0]
    _, compute, _ = make(config, targets, tmp_path)
    assert compute.graphs is not None and isinstance(compute.graphs.recorder, TapeRecorder)
    compute.graphs.recorder.roomy = False
    for _ in range(MET_BEFORE + 1):
        compute.accumulate_gradient(draw(1, [60]))
    assert compute.graphs.recorded == 0
    compute.graphs.recorder.roomy = True
    monkeypatch.setattr(graphs_module, "MOST_RECORDED", 1)
    for _ in range(MET_BEFORE + 1):
        compute.accumulate_gradient(draw(1, [60]))
        compute.accumulate_gradient(draw(1, [200]))
    assert compute.graphs.recorded == 1


def test_when_memory_runs_out_recordings_go_first_and_the_micro_batch_only_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, targets = CONFIGS[0]
    _, compute, plain = make(config, targets, tmp_path, rows=4)
    graphs = compute.graphs
    assert graphs is not None
    rows = draw(1, [60, 58, 50, 49])
    expected = take(plain, rows)
    for _ in range(MET_BEFORE + 2):
        compute.accumulate_gradient(rows)
    assert graphs.recorded == 1
    failures = iter([True, False])

    def replay() -> None:
        if next(failures):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate ...")

    [slot] = graphs._slots.values()
    slot.replay = replay
    assert_alike(take(compute, rows), expected)
    assert (compute.limits.rows, graphs.open, graphs.recorded) == (4, False, 0)
    monkeypatch.setattr("app.training.gradient.add_gradient", _only_two_rows())
    assert_alike(take(compute, rows), expected)
    assert compute.limits.rows == 2


def _only_two_rows() -> Callable[..., Tensor]:
    from app.training.assembly import add_gradient

    def limited(head: Any, batch: Any, scale: float) -> Tensor:
        rows = batch.ids.shape[0] if batch.layout is None else batch.layout.rows
        if rows > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return add_gradient(head, batch, scale)

    return limited


def test_a_recording_that_keeps_a_number_of_python_is_never_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, targets = CONFIGS[0]
    built, compute, plain = make(config, targets, tmp_path)
    real = type(built.head).each
    monkeypatch.setattr(type(built.head), "each", lambda self, batch: real(self, batch) * batch.ids.sum().tolist())
    assert compute.graphs is not None
    for number in range(MET_BEFORE + 3):
        assert compute.graphs.open is (number < MET_BEFORE + 2)
        rows = draw(number, [60, 50])
        assert_alike(take(compute, rows), take(plain, rows))
    [said] = compute.job_dir.read_events()
    assert isinstance(said, Noted) and said.key == "graphs_closed" and "instead of" in str(said.params["reason"])


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_recording_is_proven_without_a_trace_in_the_run(dropout: float, tmp_path: Path) -> None:
    """Gradients, and the numbers that dropout draws, are those of a run that records nothing."""
    found = []
    for roomy in (True, False):
        torch.manual_seed(3)
        _, compute, _ = make(*CONFIGS[0], tmp_path, dropout=dropout)
        assert compute.graphs is not None and isinstance(compute.graphs.recorder, TapeRecorder)
        compute.graphs.recorder.roomy = roomy
        torch.manual_seed(4)
        steps = [take(compute, draw(number, [60, 50])) for number in range(MET_BEFORE + 4)]
        assert compute.graphs.recorded == roomy and compute.graphs.open
        found.append(steps)
    for ours, theirs in zip(*found, strict=True):
        assert_alike(ours, theirs)


def test_what_reads_a_value_is_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, targets = CONFIGS[0]
    built, compute, plain = make(config, targets, tmp_path)
    real = type(built.head).each
    monkeypatch.setattr(type(built.head), "each", lambda self, batch: real(self, batch) * batch.ids.sum().item())
    for number in range(MET_BEFORE + 2):
        rows = draw(number, [60, 50])
        assert_alike(take(compute, rows), take(plain, rows))
    assert compute.graphs is not None and not compute.graphs.open


def test_recordings_are_for_cards_and_for_steps_that_can_be_recorded() -> None:
    built = build(*CONFIGS[0], checkpointing=False, kind="cuda")

    def find(device: str, *, checkpointing: bool = False, quantized: bool = False) -> Graphs | None:
        return find_graphs(
            built.head, built.parameters, torch.device(device), 0, LONGEST,
            checkpointing=checkpointing, quantized=quantized, say_closed=lambda _: None,
        )  # fmt: skip

    assert find("cpu") is None
    assert find("cuda", checkpointing=True) is None and find("cuda", quantized=True) is None
    assert Bucket(8, 512, 4096).tokens == 4096
