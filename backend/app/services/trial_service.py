"""Before a training: can the original model do this already, plainly or with a prompt and a few examples?"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from app.contracts.chat import Generation
from app.contracts.dataset import Example, Message
from app.contracts.trial import TrialRow, TrialStep, TrialSummary
from app.core.errors import Conflict
from app.datasets import judging
from app.services import inference_service
from app.services.dataset_service import get_dir
from app.services.inference_service import Question
from app.services.studio import Studio
from app.services.voices import Voice, get_model_voice
from app.training.comparing.prompting import ROWS_READ, Prompting, is_question, make_prompting

SEED = 0
LEAST_TOKENS, MOST_TOKENS = 32, 256
CHARACTERS_PER_TOKEN = 2
"""Fewer than in any language that tokenizers know well: an answer must not be cut for its language."""


@dataclass(frozen=True)
class Trial:
    """What is going to be asked."""

    voice: Voice
    rows: list[Example]
    heldout: bool
    prompting: Prompting
    max_new_tokens: int


def prepare_trial(studio: Studio, dataset_id: str, model_name: str, rows: int) -> Trial:
    """Choose rows and examples. Raise NotFound, ModelUnavailable (weights not here), Conflict where no row asks anything."""
    folder = get_dir(studio, dataset_id)
    classes = folder.read_info().mapping.shape == "classification"
    voice = get_model_voice(studio, model_name)
    prompting = make_prompting(folder.train_file, SEED, classes=classes)
    heldout = folder.heldout_file.exists() and folder.heldout_file.stat().st_size > 0
    shown = {example.row for example in prompting.shown} if prompting else set()
    read = islice(folder.read_examples(folder.heldout_file if heldout else folder.train_file), ROWS_READ)
    usable = [row for row in read if is_question(row) and row.row not in shown]
    if prompting is None or not usable:
        raise Conflict("nothing_to_ask", dataset_id=dataset_id)
    chosen = random.Random(SEED).sample(usable, min(rows, len(usable)))  # noqa: S311  a choice of rows
    longest = max(len(_expected(row)) for row in chosen)
    return Trial(voice, chosen, heldout, prompting, max(LEAST_TOKENS, min(MOST_TOKENS, longest // CHARACTERS_PER_TOKEN)))


def try_out(studio: Studio, trial: Trial) -> Iterator[TrialStep]:
    """Ask row by row and tell each; the summary comes last. A failure ends it; a training that holds the device goes first."""
    told: list[TrialRow] = []
    total = len(trial.rows)
    for example in trial.rows:
        question = (example.messages or [])[:-1]
        answers: dict[str, str] = {"plain": "", "prompted": ""}
        for name, turns in (("plain", question), ("prompted", trial.prompting.apply(question))):
            for delta in inference_service.answer(studio, [_question(trial, name, turns)]):
                if delta.error_key is not None:
                    yield TrialStep(done=len(told), total=total, error_key=delta.error_key, error_params=delta.error_params)
                    return
                if delta.waiting:
                    yield TrialStep(done=len(told), total=total, waiting=True)
                answers[name] += delta.delta
        told.append(_judge(example, answers["plain"].strip(), answers["prompted"].strip()))
        yield TrialStep(done=len(told), total=total, row=told[-1])
    yield TrialStep(done=total, total=total, summary=_summarise(trial, told))


def _question(trial: Trial, name: str, turns: list[Message]) -> Question:
    generation = Generation(max_new_tokens=trial.max_new_tokens)
    return Question(trial.voice.device_id, trial.voice.command(name, generation, messages=turns))


def _expected(row: Example) -> str:
    return (row.messages or [])[-1].content.strip()


def _judge(row: Example, base: str, prompted: str) -> TrialRow:
    expected = _expected(row)

    def right(said: str) -> bool:
        return judging.is_same(said, expected) or judging.is_same_json(said, expected)

    return TrialRow(
        row=row.row,
        question=(row.messages or [])[:-1],
        expected=expected,
        base=base,
        prompted=prompted,
        base_right=right(base),
        prompted_right=right(prompted),
        overlap_base=judging.overlap(base, expected),
        overlap_prompted=judging.overlap(prompted, expected),
    )


def _summarise(trial: Trial, told: list[TrialRow]) -> TrialSummary:
    count = len(told)
    return TrialSummary(
        rows=count,
        heldout=trial.heldout,
        right_base=sum(row.base_right for row in told) / count,
        right_prompted=sum(row.prompted_right for row in told) / count,
        overlap_base=sum(row.overlap_base for row in told) / count,
        overlap_prompted=sum(row.overlap_prompted for row in told) / count,
        system_prompt=trial.prompting.instruction,
        example_rows=[row.row for row in trial.prompting.shown],
    )
