"""Base and tuned on the same held-out rows, and on general questions; one process, one copy of the weights.

The order matters where time is short: losses first, then answers batch by batch, then general questions. What is not
finished when its time is over is left out, and the numbers of rows say so.
"""

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from typing import TypeVar

from app.contracts.comparison import AnsweredRow, Comparison, Measured, ProbedFact
from app.contracts.dataset import Example, Message
from app.contracts.job import TrainingJob
from app.contracts.report import Report
from app.core.errors import DatasetInvalid, Invalid
from app.datasets import judging
from app.planner.time import limit_comparison
from app.storage.job_dir import JobDir
from app.training.comparing.answering import Answerer
from app.training.comparing.interval import compare_pairs
from app.training.comparing.prompting import Prompting, is_question, make_prompting
from app.training.comparing.remarks import explain, judge_preferences, weigh_knowledge, weigh_prompt
from app.training.loading import find_device

MEASURED_ROWS = 200
SHOWN_ROWS = 20
LOSS_SHARE, ANSWER_SHARE = 0.25, 0.6
"""Of the time that there is: when the losses, and when the answers have to be there."""
FACT_TOKENS = 32
LEAST_TOKENS, MOST_TOKENS = 24, 256
"""Bounds of an answer's length; between them it is half as long again as the longest expected one."""
SHORT_CHARACTERS = 200
"""Up to this length an answer is compared as a whole."""
MOSTLY = 0.9


Item = TypeVar("Item")


class _OutOfTime(Exception):
    """The time for the comparison is over."""


@dataclass
class _Losses:
    """The loss of single rows; `tokens` is what each counts."""

    base: list[float] = field(default_factory=list)
    tuned: list[float] = field(default_factory=list)
    tokens: list[float] = field(default_factory=list)
    rows: dict[int, tuple[float, float]] = field(default_factory=dict)
    """(base, tuned) by place in the sample."""


@dataclass(frozen=True)
class _Answers:
    """All answers to one row."""

    place: int
    row: Example
    base: str
    tuned: str
    prompted: str | None

    @property
    def expected(self) -> str:
        return (self.row.messages or [])[-1].content.strip()


def compare(job_dir: JobDir, job: TrainingJob, report: Report, check_stop: Callable[[], None]) -> Comparison | None:
    """Return how base and tuned do on held-out rows; None where there are none that the model can read.

    Raises what `check_stop` raises, and what loading the model raises.
    """
    started = time.monotonic()
    allowed = limit_comparison(report.seconds)
    until = started + allowed

    def check() -> None:
        check_stop()
        if time.monotonic() > until:
            raise _OutOfTime

    rows = choose_rows(job_dir, job.optimization.seed)
    if not rows:
        return None
    answerer = Answerer(job, job_dir.adapter, find_device(job.device_id), check)

    def has_time(share: float, seconds: float = 0.0) -> bool:
        """Whether what takes so long would be done within this share of the time."""
        return time.monotonic() + seconds < started + share * allowed

    losses = _measure_losses(answerer, rows, job.optimization.max_length, lambda: has_time(LOSS_SHARE))
    if not losses.base:
        return None
    prompting = make_prompting(job_dir.train_file, job.optimization.seed, classes=job.method == "classification")
    asked = [(place, row) for place, row in enumerate(rows) if is_question(row)][: job.report_rows]
    limit = _answer_length(answerer, [row for _, row in asked])
    answers = _ask(answerer, asked, limit, prompting, partial(has_time, ANSWER_SHARE))
    facts, knowledge = _probe(answerer)
    loss = compare_pairs("loss", losses.base, losses.tuned, weights=losses.tokens)
    measures = [loss, *_judge(answers, job)]
    if job.method in ("dpo", "kto"):
        causes = judge_preferences(report)
    else:
        causes = [] if loss.verdict == "better" else explain(job, report, loss)
    shown = len(prompting.shown) if prompting else 0
    return Comparison(
        rows_in_all=report.heldout_rows,
        measured_rows=len(losses.base),
        answered_rows=len(answers),
        max_new_tokens=limit,
        system_prompt=prompting.instruction if prompting else None,
        example_rows=[example.row for example in prompting.shown] if prompting else [],
        measures=measures,
        worst=_worst(answers, losses),
        facts=facts,
        knowledge=knowledge,
        verdict=loss.verdict,
        remarks=[*causes, *weigh_prompt(measures, shown), *weigh_knowledge(knowledge)],
        seconds=time.monotonic() - started,
    )


def choose_rows(job_dir: JobDir, seed: int) -> list[Example]:
    """Return at most MEASURED_ROWS held-out rows, drawn at random, those of a smaller file in a random order."""
    if not job_dir.heldout_file.exists():
        return []
    generator = random.Random(seed)  # noqa: S311  a choice of rows
    kept: list[bytes] = []
    with job_dir.heldout_file.open("rb") as lines:
        for number, line in enumerate(lines):
            if number < MEASURED_ROWS:
                kept.append(line)
            elif (place := generator.randint(0, number)) < MEASURED_ROWS:
                kept[place] = line
    generator.shuffle(kept)
    return [Example.model_validate_json(line) for line in kept]


def _measure_losses(answerer: Answerer, rows: Sequence[Example], max_length: int, has_time: Callable[[], bool]) -> _Losses:
    losses = _Losses()
    for place, row in enumerate(rows):
        if row.desirable is False:  # an answer that is to become unlikely
            continue
        try:
            encoded = answerer.renderer.encode(row, max_length)
        except DatasetInvalid:
            continue
        if not any(encoded.trained[1:]):
            continue
        try:
            base, count = answerer.loss(encoded, tuned=False)
            tuned, _ = answerer.loss(encoded, tuned=True)
        except _OutOfTime:
            break
        losses.base.append(base)
        losses.tuned.append(tuned)
        losses.tokens.append(float(count))
        losses.rows[place] = (base, tuned)
        if not has_time():
            break
    return losses


def _probe(answerer: Answerer) -> tuple[list[ProbedFact], list[Measured]]:
    """Ask what has nothing to do with the data. Nothing where the time is over; no losses where it ends after the answers."""
    questions = json.loads(files("app.assets").joinpath("general_questions.json").read_text("utf-8"))
    turns = [[Message(role="user", content=known["question"])] for known in questions]
    expected = [Message(role="assistant", content=known["answer"]) for known in questions]
    try:
        prompts = [answerer.renderer.encode_prompt(turn) for turn in turns]
        rows = [
            answerer.renderer.encode(Example(row=0, messages=[*turn, answer]), answerer.context)
            for turn, answer in zip(turns, expected, strict=True)
        ]
        said = {tuned: _in_batches(answerer, prompts, FACT_TOKENS, tuned=tuned) for tuned in (False, True)}
    except (_OutOfTime, Invalid, DatasetInvalid):
        return [], []
    facts = [
        ProbedFact(
            language=known["language"],
            question=known["question"],
            expected=known["answer"],
            base=base,
            tuned=tuned,
            base_right=judging.holds(base, known["accepted"]),
            tuned_right=judging.holds(tuned, known["accepted"]),
        )
        for known, base, tuned in zip(questions, said[False], said[True], strict=True)
    ]
    knowledge = [compare_pairs("known", [fact.base_right for fact in facts], [fact.tuned_right for fact in facts])]
    with suppress(_OutOfTime):
        losses = {tuned: [answerer.loss(row, tuned=tuned) for row in rows] for tuned in (False, True)}
        before, after = ([value for value, _ in losses[tuned]] for tuned in (False, True))
        knowledge.insert(0, compare_pairs("loss", before, after, weights=[float(count) for _, count in losses[True]]))
    return facts, knowledge


def _ask(
    answerer: Answerer,
    asked: Sequence[tuple[int, Example]],
    limit: int,
    prompting: Prompting | None,
    has_time: Callable[[float], bool],
) -> list[_Answers]:
    """Return the answers of all to each row, as far as the time goes: no batch is begun that would not be done in it."""
    answers: list[_Answers] = []
    try:
        for batch in _batches(list(_renderable(answerer, asked, limit, prompting)), answerer.together):
            started = time.monotonic()
            plain = [prompt for _, _, prompt, _ in batch]
            base = answerer.answer(plain, limit, tuned=False)
            tuned = answerer.answer(plain, limit, tuned=True)
            helped = [prompt for *_, prompt in batch if prompt is not None]
            prompted = iter(answerer.answer(helped, limit, tuned=False) if helped else [])
            answers += [
                _Answers(place, row, base[at], tuned[at], None if longer is None else next(prompted))
                for at, (place, row, _, longer) in enumerate(batch)
            ]
            if not has_time(time.monotonic() - started):
                break
    except _OutOfTime:
        return answers
    return answers


def _renderable(
    answerer: Answerer, asked: Sequence[tuple[int, Example]], limit: int, prompting: Prompting | None
) -> Iterator[tuple[int, Example, list[int], list[int] | None]]:
    """Yield each row with its prompt, and with the longer one; without it where that does not fit."""
    for place, row in asked:
        question = (row.messages or [])[:-1]
        try:
            prompt = answerer.renderer.encode_prompt(question)
            longer = answerer.renderer.encode_prompt(prompting.apply(question)) if prompting else None
        except Invalid:
            continue
        if len(prompt) + limit > answerer.context:
            continue
        yield place, row, prompt, longer if longer is not None and len(longer) + limit <= answerer.context else None


def _answer_length(answerer: Answerer, rows: Sequence[Example]) -> int:
    """Return how many tokens an answer may have."""
    asking = Message(role="user", content="?")
    lengths = []
    for row in rows:
        try:
            encoded = answerer.renderer.encode(
                Example(row=row.row, messages=[asking, (row.messages or [])[-1]]), answerer.context
            )
        except DatasetInvalid:
            continue
        lengths.append(sum(encoded.trained))
    return max(LEAST_TOKENS, min(MOST_TOKENS, round(1.5 * max(lengths, default=0)), answerer.context // 4))


def _judge(answers: Sequence[_Answers], job: TrainingJob) -> list[Measured]:
    """Return the measures that the expected answers allow, the strictest first."""
    if not answers:
        return []
    wanted = [found.expected for found in answers]
    prompted = [found.prompted for found in answers] if all(found.prompted is not None for found in answers) else None

    def measure(name: str, judge: Callable[[str, str], float]) -> Measured:
        values = [
            [float(judge(said or "", expected)) for said, expected in zip(side, wanted, strict=True)]
            for side in ([found.base for found in answers], [found.tuned for found in answers], prompted or [""] * len(wanted))
        ]
        return compare_pairs(name, values[0], values[1], prompted=values[2] if prompted else None)  # type: ignore[arg-type]

    found: list[Measured] = []
    if job.method == "classification":
        found.append(measure("accuracy", judging.is_same))
    elif sum(map(judging.is_json, wanted)) >= MOSTLY * len(wanted):
        found += [measure("json_equal", judging.is_same_json), measure("json_valid", lambda said, _: judging.is_json(said))]
    elif sum(len(text) <= SHORT_CHARACTERS for text in wanted) >= MOSTLY * len(wanted):
        found.append(measure("exact", judging.is_same))
    if job.method != "classification":
        found.append(measure("overlap", judging.overlap))
    return found


def _worst(answers: Sequence[_Answers], losses: _Losses) -> list[AnsweredRow]:
    """Return the rows with the worst answers of the trained model first."""
    rows = []
    for found in answers:
        base_loss, tuned_loss = losses.rows.get(found.place, (None, None))
        rows.append(
            AnsweredRow(
                row=found.row.row,
                question=(found.row.messages or [])[:-1],
                expected=found.expected,
                base=found.base,
                prompted=found.prompted,
                tuned=found.tuned,
                overlap_base=judging.overlap(found.base, found.expected),
                overlap_tuned=judging.overlap(found.tuned, found.expected),
                right=judging.is_same(found.tuned, found.expected) or judging.is_same_json(found.tuned, found.expected),
                loss_base=base_loss,
                loss_tuned=tuned_loss,
            )
        )
    rows.sort(key=lambda row: (row.right, row.overlap_tuned, -(row.loss_tuned or 0.0)))
    return rows[:SHOWN_ROWS]


def _in_batches(answerer: Answerer, prompts: Sequence[list[int]], limit: int, *, tuned: bool) -> list[str]:
    batches = _batches(prompts, answerer.together)
    return [answer for batch in batches for answer in answerer.answer(batch, limit, tuned=tuned)]


def _batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
