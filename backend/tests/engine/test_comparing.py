"""Base and tuned beside each other after a real training of a tiny model."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from app.api.report_wording import comparison_read
from app.contracts.comparison import Comparison
from app.contracts.dataset import Example, Message
from app.contracts.events import Noted
from app.contracts.report import Report
from app.datasets.render import EncodedExample, Renderer
from app.storage.job_dir import JobDir, write_atomically
from app.training.__main__ import main
from app.training.comparing.after import compare_after
from app.training.comparing.answering import Answerer
from app.training.comparing.compare import _OutOfTime, _probe
from app.training.comparing.interval import compare_pairs
from app.training.comparing.prompting import make_prompting
from app.training.comparing.remarks import weigh_knowledge, weigh_prompt
from app.training.engine import train
from app.training.stopping import StopWatch
from tests.engine.tiny import GPT2_TARGETS, make_job


def colours(count: int, start: int = 0) -> list[Example]:
    """Return rows that all have one answer: what a tiny model can really learn."""
    return [
        Example(
            row=number + 1,
            messages=[Message(role="user", content=f"colour {number}?"), Message(role="assistant", content="Blue.")],
        )
        for number in range(start, start + count)
    ]


def compared_job(folder: Path, model: Path, *, report_rows: int = 6, **changes: Any) -> JobDir:
    options: dict[str, Any] = {"train": colours(24), "heldout": colours(10, start=24), "num_epochs": 6, "learning_rate": 2e-2}
    job_dir = make_job(folder, model, **(options | changes))
    job = job_dir.read_job().model_copy(update={"report_rows": report_rows})
    write_atomically(job_dir.job_file, job.model_dump_json())
    return job_dir


def finish(job_dir: JobDir) -> tuple[Report, Comparison | None]:
    stop = StopWatch(job_dir)
    report = train(job_dir, stop)
    compare_after(job_dir, report, stop)
    return report, job_dir.find_comparison()


@pytest.fixture(scope="module")
def learned(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[JobDir, Report, Comparison]:
    job_dir = compared_job(tmp_path_factory.mktemp("compared") / "job", llama)
    report, found = finish(job_dir)
    assert found is not None
    return job_dir, report, found


def test_a_training_that_helps_is_told_from_chance(learned: tuple[JobDir, Report, Comparison]) -> None:
    _, report, found = learned
    measures = {measure.name: measure for measure in found.measures}
    assert found.verdict == "better" and measures["loss"].high < 0
    assert (found.rows_in_all, found.measured_rows, found.answered_rows) == (10, 10, 6)
    assert measures["exact"].base == 0 and measures["exact"].tuned == 1 and measures["exact"].verdict == "better"
    assert report.loss_before is not None and report.loss_after is not None
    assert measures["loss"].base == pytest.approx(report.loss_before, rel=1e-4), "the same rows, another computation"
    assert measures["loss"].tuned == pytest.approx(report.loss_after, rel=1e-3)
    assert all(row.tuned == "Blue." and row.right and row.expected == "Blue." for row in found.worst)
    assert [notice.key for notice in found.remarks if notice.code.startswith("no_effect")] == []


def test_general_questions_in_four_languages_show_what_was_forgotten(learned: tuple[JobDir, Report, Comparison]) -> None:
    found = learned[2]
    assert len(found.facts) == 16 and {fact.language for fact in found.facts} == {"en", "fr", "de", "es"}
    assert {fact.tuned for fact in found.facts} != {fact.base for fact in found.facts}
    loss, known = found.knowledge
    assert (loss.name, known.name, loss.rows) == ("loss", "known", 16)
    assert loss.base != loss.tuned and loss.low < loss.change < loss.high
    shown = comparison_read(found, "en")
    assert shown.knowledge[0].label not in {measure.label for measure in shown.measures}


def test_general_answers_are_kept_where_the_time_ends_before_their_losses(learned: tuple[JobDir, Report, Comparison]) -> None:
    class Late(Answerer):
        def loss(self, row: EncodedExample, *, tuned: bool) -> tuple[float, int]:
            raise _OutOfTime

    job_dir, _, found = learned
    facts, knowledge = _probe(Late(job_dir.read_job(), job_dir.adapter, torch.device("cpu"), lambda: None))

    assert facts == found.facts
    assert [measure.name for measure in knowledge] == ["known"]


def test_only_a_loss_of_knowledge_beyond_chance_is_a_warning() -> None:
    worse = compare_pairs("loss", [1.0, 1.2, 0.9, 1.1], [1.5, 1.6, 1.4, 1.7])
    assert [notice.key for notice in weigh_knowledge([worse])] == ["forgotten"]
    assert weigh_knowledge([worse])[0].params == {"percent": 48}
    by_chance = compare_pairs("loss", [1.0, 1.2, 0.9, 1.1], [3.0, 0.2, 2.8, 0.1])
    slightly = compare_pairs("loss", [1.0, 1.2, 0.9, 1.1], [1.1, 1.3, 1.0, 1.2])
    assert weigh_knowledge([by_chance]) == weigh_knowledge([slightly]) == weigh_knowledge([]) == []


def test_the_original_model_is_also_asked_with_examples(learned: tuple[JobDir, Report, Comparison]) -> None:
    job_dir, _, found = learned
    assert found.system_prompt is not None and len(found.example_rows) == 4 and max(found.example_rows) <= 24
    assert all(row.prompted is not None for row in found.worst)
    assert all(measure.prompted is not None for measure in found.measures if measure.name != "loss")
    prompting = make_prompting(job_dir.train_file, job_dir.read_job().optimization.seed, classes=False)
    assert prompting is not None
    turns = prompting.apply([Message(role="system", content="Be kind."), Message(role="user", content="q?")])
    assert [turn.role for turn in turns] == ["system", *["user", "assistant"] * 4, "user"]
    assert turns[0].content.startswith("Be kind.") and turns[-1].content == "q?"


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_answers_of_a_batch_are_those_of_each_prompt_alone(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder: Path = request.getfixturevalue(name)
    targets = GPT2_TARGETS if name == "gpt2" else None
    job_dir = compared_job(tmp_path / "job", folder, targets=targets, num_epochs=2)
    train(job_dir, StopWatch(job_dir))
    answerer = Answerer(job_dir.read_job(), job_dir.adapter, torch.device("cpu"), lambda: None)
    turns = [[Message(role="user", content="word " * count)] for count in (1, 7, 20)]
    prompts = [answerer.renderer.encode_prompt(turn) for turn in turns]
    together = answerer.answer(prompts, 12, tuned=True)
    assert together == [answerer.answer([prompt], 12, tuned=True)[0] for prompt in prompts]
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.tensor([prompts[1]])
    for _ in range(12):
        ids = torch.cat([ids, plain(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)], 1)
    renderer = Renderer.load(folder)
    said = ids[0, len(prompts[1]) :].tolist()
    end = next((place for place, token in enumerate(said) if token in renderer.stop_ids), len(said))
    assert answerer.answer([prompts[1]], 12, tuned=False) == [renderer.decode(said[:end]).strip()]


def test_a_training_that_changes_nothing_says_so_with_causes(llama: Path, tmp_path: Path) -> None:
    job_dir = compared_job(tmp_path / "job", llama, num_epochs=1, learning_rate=1e-9)
    _, found = finish(job_dir)
    assert found is not None and found.verdict == "no_effect"
    loss = found.measures[0]
    assert loss.low <= 0 <= loss.high
    keys = [notice.key for notice in found.remarks]
    assert "no_effect.nothing_learned" in keys and "no_effect.few_steps" in keys and "no_effect.few_rows" in keys


def test_raw_texts_have_losses_and_no_answers(llama: Path, tmp_path: Path) -> None:
    texts = [Example(row=number, text=f"line {number} of a text that goes on and on") for number in range(1, 31)]
    job_dir = compared_job(tmp_path / "job", llama, train=texts[:20], heldout=texts[20:], method="pretraining", num_epochs=4)
    _, found = finish(job_dir)
    assert found is not None and found.measured_rows == 10 and found.answered_rows == 0
    assert [measure.name for measure in found.measures] == ["loss"] and found.worst == []


def test_classes_and_json_are_judged_as_such(llama: Path, tmp_path: Path) -> None:
    def rows(answers: list[str]) -> list[Example]:
        return [
            Example(row=at, messages=[Message(role="user", content=f"q{at}"), Message(role="assistant", content=answer)])
            for at, answer in enumerate(answers, start=1)
        ]

    labels = rows(["good"] * 20)
    _, found = finish(
        compared_job(tmp_path / "classes", llama, train=labels[:14], heldout=labels[14:], method="classification", num_epochs=12)
    )
    assert found is not None
    accuracy = found.measures[1]
    assert accuracy.name == "accuracy" and (accuracy.base, accuracy.tuned) == (0, 1)
    assert found.system_prompt is not None and "one of these words" in found.system_prompt
    objects = rows([json.dumps({"a": 1})] * 20)
    _, found = finish(compared_job(tmp_path / "json", llama, train=objects[:14], heldout=objects[14:], num_epochs=8))
    assert found is not None
    assert [measure.name for measure in found.measures] == ["loss", "json_equal", "json_valid", "overlap"]
    assert found.measures[1].tuned == found.measures[2].tuned == 1


def test_a_comparison_that_fails_leaves_the_result_of_the_job(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_dir = compared_job(tmp_path / "job", llama, num_epochs=1)

    def fails(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("app.training.comparing.after.compare", fails)
    report, found = finish(job_dir)
    assert found is None and report.steps > 0 and (job_dir.adapter / "adapter_model.safetensors").is_file()
    noted = [event.key for event in job_dir.read_events() if isinstance(event, Noted)]
    assert "comparison_failed.memory" in noted


def test_who_stops_a_job_while_it_compares_keeps_what_was_trained(llama: Path, tmp_path: Path) -> None:
    job_dir = compared_job(tmp_path / "job", llama, num_epochs=1)
    train(job_dir, StopWatch(job_dir))
    steps = job_dir.find_report()
    job_dir.cancel_file.touch()
    assert main([str(job_dir.path)]) == 0, "an earlier attempt had trained to the end"
    noted = [event.key for event in job_dir.read_events() if isinstance(event, Noted)]
    assert "comparison_stopped" in noted and job_dir.find_comparison() is None
    assert job_dir.find_report() == steps


def test_an_interval_holds_what_it_promises() -> None:
    drawn = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(100):
        base = torch.randn(60, generator=drawn)
        tuned = base + 0.3 + torch.randn(60, generator=drawn)
        found = compare_pairs("loss", base.tolist(), tuned.tolist())
        covered += found.low <= 0.3 <= found.high
    assert covered >= 88, "about 95 of 100 intervals hold the true difference"
    same = compare_pairs("exact", [0.0, 1.0], [0.0, 1.0])
    assert same.low == same.high == 0 and same.verdict == "no_effect"
    weighted = compare_pairs("loss", [1.0, 2.0], [1.0, 1.0], weights=[3.0, 1.0])
    assert weighted.base == pytest.approx(1.25) and weighted.tuned == 1


def test_a_measure_that_neither_passes_says_nothing_about_a_prompt() -> None:
    nothing = compare_pairs("exact", [0.0, 0.0], [0.0, 0.0], prompted=[0.0, 0.0])
    words = compare_pairs("overlap", [0.1, 0.1], [0.5, 0.5], prompted=[0.5, 0.5])
    assert [notice.key for notice in weigh_prompt([nothing, words], 4)] == ["prompt_enough.overlap"]
    assert weigh_prompt([nothing], 4) == []
