"""DPO, KTO and the others: the formulas of the papers through PEFT, and whole runs on a tiny real model."""

import math
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional as F

from app.contracts.dataset import Example, Message
from app.contracts.events import EvalLogged, Noted
from app.core.errors import OutOfHostMemory
from app.datasets.render import Renderer
from app.planner import micro_batches
from app.storage.job_dir import JobDir
from app.training.assembly import assemble
from app.training.batching import Row
from app.training.engine import train
from app.training.gradient import Computer, Limits
from app.training.lanes import Lanes
from app.training.loading import load_model
from app.training.lora import adapter_tensors, save_adapter
from app.training.methods.choosing import prepare
from app.training.methods.interface import Method
from app.training.methods.kto import Mismatched
from app.training.rows import encode_rows
from app.training.stopping import Stopped, StopWatch
from tests.engine.test_engine import StopAfter, adapter, steps_of
from tests.engine.test_lora import load
from tests.engine.tiny import GPT2_TARGETS, examples, make_job

BETA = 0.1


def pairs(count: int, *, start: int = 0) -> list[Example]:
    """Return questions with a polite answer that is preferred and a rude one."""
    rows = []
    for row in examples(count, start=start):
        assert row.messages is not None
        rude = [*row.messages[:-1], Message(role="assistant", content="Go away!" + " No." * (row.row % 3))]
        rows.append(Example(row=row.row, messages=row.messages, rejected=rude))
    return rows


def judged(count: int, *, start: int = 0) -> list[Example]:
    """Return questions with a good answer and, one in two, a bad one instead."""
    rows = []
    for row in pairs(count, start=start):
        good = row.row % 2 == 0
        rows.append(Example(row=row.row, messages=row.messages if good else row.rejected, desirable=good))
    return rows


def prepared(
    folder: Path,
    tmp_path: Path,
    rows: list[Example],
    method: str,
    name: str,
    *,
    micro_rows: int = 4,
    lanes: int = 1,
    **options: Any,
) -> tuple[Computer, Method, JobDir]:
    """Return what the engine would work with, the adapter no longer as it was at the start."""
    targets = GPT2_TARGETS if name == "gpt2" else None
    job_dir = make_job(
        tmp_path / f"{method}{micro_rows}", folder, train=rows, heldout=[], targets=targets, method=method, **options
    )
    job = job_dir.read_job()
    torch.manual_seed(3)
    model = load_model(job, torch.device("cpu"))
    built = assemble(model, job.lora, kind="cpu")
    renderer = Renderer.load(folder)
    cpu, limits = torch.device("cpu"), Limits(rows=micro_rows, tokens=None, lanes=lanes)
    aside = Lanes(lanes, torch.get_num_threads())
    compute = Computer(built.head, built.parameters, cpu, renderer.pad_id, 256, limits, job_dir, lambda: None, lanes=aside)
    found = [
        encode_rows(
            file,
            job_dir.encoded / file.stem,
            renderer,
            max_length=256,
            long_rows="truncate",
            check_stop=lambda: None,
            judged=method in ("dpo", "kto"),
        )
        for file in (job_dir.train_file, job_dir.heldout_file)
    ]
    method_over_rows, _ = prepare(job, compute, *found)
    torch.manual_seed(5)
    for key, tensor in sorted(adapter_tensors(model).items()):
        assert "lora_" in key
        nn.init.normal_(tensor, std=0.1)
    return compute, method_over_rows, job_dir


def in_peft(compute: Computer, folder: Path, job_dir: JobDir) -> Any:
    save_adapter(compute.head.model, job_dir.path / "for_peft", "org/name", job_dir.read_job().lora)
    return PeftModel.from_pretrained(load(folder), job_dir.path / "for_peft", is_trainable=True)


def log_probability(model: Any, row: Row) -> Tensor:
    """Sum of log p over the row's answer, from all logits."""
    log_probs = F.log_softmax(model(input_ids=torch.tensor([row.ids])).logits[0], dim=-1)
    targets = torch.tensor(row.targets)
    return log_probs[targets - 1, torch.tensor(row.ids)[targets]].sum()


def reference_of(model: Any, row: Row) -> Tensor:
    with torch.no_grad(), model.disable_adapter():
        return log_probability(model, row)


def assert_same_gradients(compute: Computer, model: Any, weight: int) -> None:
    theirs = {
        key.replace(".default", ""): parameter.grad for key, parameter in model.named_parameters() if parameter.requires_grad
    }
    ours = adapter_tensors(compute.head.model)
    assert ours.keys() == theirs.keys()
    for key, parameter in ours.items():
        assert parameter.grad is not None
        assert (parameter.grad / weight - theirs[key]).norm() <= 2e-5 * theirs[key].norm(), key


@pytest.mark.parametrize(("micro_rows", "lanes"), [(1, 1), (4, 2), (100, 1)])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_dpo_is_the_papers_formula(
    name: str, micro_rows: int, lanes: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(name)
    compute, method, job_dir = prepared(folder, tmp_path, pairs(5), "dpo", name, micro_rows=micro_rows, lanes=lanes)
    outcome = method.add_gradient(compute, [3, 0, 4, 1])
    assert (len(method), outcome.weight) == (5, 4)

    model = in_peft(compute, folder, job_dir)
    losses, margins = [], []
    for place in (3, 0, 4, 1):
        chosen, rejected = method.rows_of([place])
        assert (chosen.desired, rejected.desired, chosen.row) == (True, False, rejected.row)
        policy = log_probability(model, chosen) - log_probability(model, rejected)
        margins.append(BETA * (policy - (reference_of(model, chosen) - reference_of(model, rejected))))
        losses.append(-F.logsigmoid(margins[-1]))
    loss = torch.stack(losses).mean()
    loss.backward()
    assert outcome.loss == pytest.approx(loss.item(), rel=1e-5)
    assert outcome.measures["reward_margin"] == pytest.approx(torch.stack(margins).mean().item(), rel=1e-4)
    assert outcome.measures["accuracy"] == sum(margin.item() > 0 for margin in margins) / 4
    assert_same_gradients(compute, model, outcome.weight)


@pytest.mark.parametrize(("micro_rows", "lanes"), [(2, 2), (100, 1)])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_kto_is_the_papers_formula(
    name: str, micro_rows: int, lanes: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(name)
    compute, method, job_dir = prepared(folder, tmp_path, judged(7), "kto", name, micro_rows=micro_rows, lanes=lanes)
    places = [3, 0, 4, 1, 6]
    outcome = method.add_gradient(compute, places)
    rows = method.rows_of(places)

    model = in_peft(compute, folder, job_dir)
    mismatched = Mismatched(method.rows_of(range(7)), 256)
    with torch.no_grad():
        moves = [log_probability(model, mismatched[place]) - reference_of(model, mismatched[place]) for place in places]
    kl = torch.stack(moves).mean().clamp(min=0)
    losses = []
    for row in rows:
        ratio = log_probability(model, row) - reference_of(model, row)
        losses.append(1 - torch.sigmoid(BETA * (ratio - kl) if row.desired else BETA * (kl - ratio)))
    loss = torch.stack(losses).mean()
    loss.backward()
    assert outcome.loss == pytest.approx(loss.item(), rel=1e-5)
    assert outcome.measures["kl"] == pytest.approx(kl.item(), rel=1e-4, abs=1e-6)
    assert_same_gradients(compute, model, outcome.weight)


def test_a_mismatched_answer_is_that_of_another_question(llama: Path, tmp_path: Path) -> None:
    _, method, _ = prepared(llama, tmp_path, pairs(4), "kto", "llama")
    rows = method.rows_of(range(len(method)))
    assert [row.desired for row in rows] == [True, False] * 4
    mismatched = Mismatched(rows, 256)
    for place, row in enumerate(rows):
        built = mismatched[place]
        asked = row.targets[0]
        assert built.ids[:asked] == row.ids[:asked] and built.targets[0] == asked
        others = [other.ids[other.targets[0] :] for other in rows if other.row != row.row]
        assert built.ids[asked:] in others
    short = Mismatched(rows, rows[0].targets[0] - 3)[0]
    assert len(short.ids) == rows[0].targets[0] - 3 and len(short.targets) == 1


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_preferences_are_learned_and_the_base_is_the_reference(method: str, llama: Path, tmp_path: Path) -> None:
    make = pairs if method == "dpo" else judged
    job_dir = make_job(
        tmp_path / "job", llama, train=make(24), heldout=make(6, start=24), method=method, num_epochs=3, learning_rate=5e-3
    )
    report = train(job_dir, StopWatch(job_dir))
    start = math.log(2) if method == "dpo" else 0.5
    assert report.loss_before == pytest.approx(start, abs=1e-6)
    assert report.loss_after is not None and report.loss_after < 0.7 * start
    assert report.measures_after["reward_margin"] > 1 > abs(report.measures_before["reward_margin"])
    steps = steps_of(job_dir)
    assert steps[0].loss == pytest.approx(start, abs=1e-6)
    if method == "dpo":
        assert report.measures_after["accuracy"] == 1
        assert report.trained_rows == 24 and len(steps) == 9  # 24 pairs, 8 a step, 3 epochs
    evaluations = [event for event in job_dir.read_events() if isinstance(event, EvalLogged)]
    assert [event.rows for event in evaluations] == [6] * 4


@pytest.mark.parametrize("method", ["dpo", "kto"])
@pytest.mark.parametrize("lanes", [1, 2])
def test_the_reference_is_computed_in_the_micro_batches_that_are_learned(
    lanes: int, method: str, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 16 bits a row's log-probability depends on the rows beside it: only so nothing has moved before the first step."""
    monkeypatch.setattr("app.training.engine.use_physical_cores", lambda: lanes)
    real, computed = Computer._losses_of, []

    def note(self: Computer, rows: list[Row]) -> Tensor:
        computed.append((torch.is_grad_enabled(), tuple(tuple(row.ids) for row in rows)))
        return real(self, rows)

    monkeypatch.setattr(Computer, "_losses_of", note)
    monkeypatch.setattr("app.training.engine.probe", lambda *_: None)
    make = pairs if method == "dpo" else judged
    rows = [row.model_copy(update={"messages": wordy(row.messages, row.row)}) for row in make(30)]
    job_dir = make_job(
        tmp_path / "job", llama, train=rows[:21], heldout=rows[21:], method=method, dtype="bfloat16", num_epochs=1,
        learning_rate=1e-30, dropout=0.2,
    )  # fmt: skip
    report = train(job_dir, StopWatch(job_dir))
    learned = [part for learns, part in computed if learns]
    read = [part for learns, part in computed if not learns]
    assert len(learned) >= 3 and set(learned) <= set(read)
    assert all(read.count(part) > 1 for part in set(read) - set(learned))  # of each evaluation, and of KTO's foreign answers
    start = pytest.approx(math.log(2) if method == "dpo" else 0.5, abs=1e-7)
    assert [event.loss for event in steps_of(job_dir)] == [start] * 3
    assert (report.loss_before, report.loss_after) == (start, start)
    assert report.measures_before["reward_margin"] == 0


def wordy(messages: list[Message] | None, number: int) -> list[Message]:
    """Return the conversation with a question of another length."""
    assert messages is not None
    first = messages[0].model_copy(update={"content": f"{messages[0].content} {'ab ' * (number * 7 % 23)}"})
    return [first, *messages[1:]]


@pytest.mark.parametrize("heldout", [1, 2])
def test_without_another_question_nothing_is_said_about_the_move(heldout: int, llama: Path, tmp_path: Path) -> None:
    """Of one held-out answer, or of both to one question, none can be set behind another question."""
    rows = judged(1, start=8) if heldout == 1 else pairs(1, start=8)
    job_dir = make_job(tmp_path / "job", llama, train=judged(8), heldout=rows, method="kto", num_epochs=1)
    report = train(job_dir, StopWatch(job_dir))
    assert (report.heldout_rows, report.measures_after["kl"]) == (heldout, 0)
    assert report.loss_before == pytest.approx(0.5, abs=1e-6)


def test_foreign_answers_without_a_number_are_not_taken_for_no_move(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute, method, _ = prepared(llama, tmp_path, judged(4), "kto", "llama")
    monkeypatch.setattr(Computer, "row_losses", lambda _, rows: [math.nan] * len(rows))
    outcome = method.add_gradient(compute, range(4))
    assert math.isnan(outcome.measures["kl"]) and math.isnan(outcome.loss)


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_preferences_beside_each_other_give_the_same_bits_whoever_is_first(
    method: str, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each micro-batch waits in turn until another has ended."""
    rows = pairs(6) if method == "dpo" else judged(6)
    compute, examples_of, _ = prepared(llama, tmp_path, rows, method, "llama", micro_rows=2, lanes=2, dropout=0.3)
    compute.head.model.train()
    real = Computer._learn
    found = []
    for slow in (0, 1):
        turns, other_done = iter(range(1000)), threading.Event()

        def learn_late(
            self: Computer,
            loss: Tensor,
            *,
            keep: bool,
            turns: Iterator[int] = turns,
            slow: int = slow,
            done: threading.Event = other_done,
        ) -> list[Tensor]:
            turn = next(turns)
            if turn == slow:
                assert done.wait(60)
            gradients = real(self, loss, keep=keep)
            if turn == 1 - slow:
                done.set()
            return gradients

        monkeypatch.setattr(Computer, "_learn", learn_late)
        for parameter in compute.parameters:
            parameter.grad = None
        torch.manual_seed(3)
        outcome = examples_of.add_gradient(compute, range(6))
        gradients = [parameter.grad.clone() for parameter in compute.parameters if parameter.grad is not None]
        assert other_done.is_set() and len(gradients) == len(compute.parameters)
        found.append((outcome, gradients))
    (one, first), (other, second) = found
    assert one == other
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_a_paused_run_goes_on_with_the_same_reference(
    method: str, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on a machine with fewer cores: micro-batches are cut for as many lanes as the run began with."""
    make = pairs if method == "dpo" else judged
    options: dict[str, Any] = {"train": make(16), "heldout": make(4, start=16), "method": method, "dropout": 0.2}
    whole = make_job(tmp_path / "whole", llama, **options)
    monkeypatch.setattr("app.training.engine.use_physical_cores", lambda: 2)
    train(whole, StopWatch(whole))
    job_dir = make_job(tmp_path / "parts", llama, **options)
    with pytest.raises(Stopped):
        train(job_dir, StopAfter(job_dir, 3, job_dir.pause_file))
    job_dir.pause_file.unlink()
    monkeypatch.setattr("app.training.engine.use_physical_cores", lambda: 1)
    if method == "kto":  # lost, it is computed again from the adapter's start
        for file in job_dir.encoded.glob("*.reference"):
            file.unlink()
    train(job_dir, StopWatch(job_dir))
    assert [event.loss for event in steps_of(job_dir)] == [event.loss for event in steps_of(whole)]
    assert all(torch.equal(tensor, adapter(whole)[key]) for key, tensor in adapter(job_dir).items())


def test_running_out_of_memory_halves_the_pairs_of_a_micro_batch(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(micro_batches, "PART_TOKENS", 1000)  # as few micro-batches as can be
    compute, method, job_dir = prepared(llama, tmp_path, pairs(8), "dpo", "llama", micro_rows=8, lanes=2)
    expected = method.add_gradient(compute, range(8))
    gradients = [parameter.grad for parameter in compute.parameters]
    real = Computer._losses_of

    def limited(self: Computer, rows: list[Row]) -> Tensor:
        if len(rows) > most:
            raise MemoryError
        return real(self, rows)

    monkeypatch.setattr(Computer, "_losses_of", limited)
    most = 2
    for parameter in compute.parameters:
        parameter.grad = None
    again = method.add_gradient(compute, range(8))
    assert compute.limits.rows == 2
    assert again.loss == pytest.approx(expected.loss, rel=1e-6)
    for parameter, gradient in zip(compute.parameters, gradients, strict=True):
        assert parameter.grad is not None and gradient is not None
        assert (parameter.grad - gradient).norm() <= 1e-5 * gradient.norm()
    assert compute.limits.lanes == 2
    most = 1
    with pytest.raises(OutOfHostMemory):
        method.add_gradient(compute, range(8))
    noted = [event.key for event in job_dir.read_events() if isinstance(event, Noted)]
    assert noted == ["micro_batch_halved", "micro_batch_halved", "lanes_closed"]


def test_of_a_judged_conversation_only_the_last_answer_is_trained(llama: Path, tmp_path: Path) -> None:
    earlier = [Message(role="user", content="Hi"), Message(role="assistant", content="HELLO")]
    long = [*earlier, Message(role="user", content="x")]
    pair = Example(
        row=1,
        messages=[*long, Message(role="assistant", content="YES")],
        rejected=[*long, Message(role="assistant", content="NO")],
    )
    _, method, _ = prepared(llama, tmp_path, [pair], "dpo", "llama")
    renderer = Renderer.load(llama)
    learned = [renderer.decode([row.ids[at] for at in row.targets], skip_special=False) for row in method.rows_of([0])]
    assert learned == ["YES<|im_end|>", "NO<|im_end|>"]


def test_a_pair_of_which_one_answer_was_cut_off_is_left_out_whole(llama: Path, tmp_path: Path) -> None:
    short, long = pairs(2)
    assert long.messages is not None
    cut = long.model_copy(update={"messages": [Message(role="user", content="x" * 400), long.messages[-1]]})
    job_dir = make_job(tmp_path / "job", llama, train=[short, cut], heldout=[], method="dpo", num_epochs=1)
    report = train(job_dir, StopWatch(job_dir))
    assert (report.trained_rows, report.dropped_rows) == (1, 1)


def test_classes_are_learned_as_text_and_counted_right_or_wrong(llama: Path, tmp_path: Path) -> None:
    def labelled(count: int, start: int) -> list[Example]:
        rows = []
        for i in range(start, start + count):
            text, name = (f"I like number {i}", "good") if i % 2 else (f"A bad {i}, bad", "poor")
            turns = [Message(role="user", content=text), Message(role="assistant", content=name)]
            rows.append(Example(row=i + 1, messages=turns))
        return rows

    job_dir = make_job(
        tmp_path / "job",
        llama,
        train=labelled(32, 0),
        heldout=labelled(8, 32),
        method="classification",
        num_epochs=4,
        learning_rate=2e-2,
    )
    report = train(job_dir, StopWatch(job_dir))
    assert report.measures_after["accuracy"] == 1
    assert report.measures_before["accuracy"] < 1


def test_raw_text_is_learned_whole_and_long_texts_become_several_rows(llama: Path, tmp_path: Path) -> None:
    texts = [Example(row=i + 1, text=f"Once upon a time number {i} " * 12) for i in range(8)]
    job_dir = make_job(
        tmp_path / "job", llama, train=texts, heldout=[], method="pretraining", long_rows="split", max_length=64, num_epochs=3
    )
    report = train(job_dir, StopWatch(job_dir))
    assert report.trained_rows > 8 and report.truncated_rows == 0 and report.trained_token_share > 0.95
    assert report.train_loss_last < 0.8 * report.train_loss_first


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_a_continued_adapter_begins_where_the_earlier_job_ended(method: str, llama: Path, tmp_path: Path) -> None:
    """Its held-out loss before the first step is the earlier job's last one; to DPO it is the reference."""
    options: dict[str, Any] = {"train": pairs(16), "heldout": pairs(4, start=16), "learning_rate": 5e-3}
    earlier = make_job(tmp_path / "earlier", llama, **options)
    ended = train(earlier, StopWatch(earlier))
    later = make_job(tmp_path / "later", llama, method=method, continue_from="earlier", **options)
    shutil.copytree(earlier.adapter, later.start_adapter)
    report = train(later, StopWatch(later))
    if method == "sft":
        assert report.loss_before == pytest.approx(ended.loss_after, rel=1e-6)
        assert report.loss_after is not None and ended.loss_after is not None
        assert report.loss_after < ended.loss_after
    else:
        assert report.loss_before == pytest.approx(math.log(2), abs=1e-6)
    start, end = adapter(earlier), adapter(later)
    assert all(not torch.equal(end[key], start[key]) for key in start)
