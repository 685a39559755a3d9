"""Checks before a start: what a healthy loss curve would not show."""

from itertools import pairwise
from pathlib import Path

import pytest

from app.contracts.dataset import Example, Message
from app.core.errors import DatasetInvalid
from app.datasets.render import Renderer
from app.datasets.token_checks import Cut, TokenCheck, check_tokens, find_ends, holds_template, refuse_failed
from app.datasets.token_lengths import count_lengths, share_cut
from app.datasets.tokens import TokenCount, token_counts
from tests.unit.datasets import models

WIDE = Cut(max_length=4096, long_rows="truncate")
PLAIN_TURNS = (
    "{% for m in messages %}{{ ('Q: ' if m.role == 'user' else 'A: ') + m.content + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'A: ' }}{% endif %}"
)
"""Closes no answer: the renderer adds an end token to the last one, those before stay open."""


def talk(row: int, *contents: str) -> Example:
    roles = ("user", "assistant")
    messages = [Message(role=roles[place % 2], content=content) for place, content in enumerate(contents)]  # type: ignore[arg-type]
    return Example(row=row, messages=messages)


def count(tmp_path: Path, examples: list[Example], model: Path) -> list[TokenCount]:
    file = tmp_path / "train.jsonl"
    file.write_text("".join(example.model_dump_json() + "\n" for example in examples), "utf-8")
    return token_counts(file, model)


def check(counts: list[TokenCount], cut: Cut = WIDE, **more: bool) -> dict[str, TokenCheck]:
    return {found.check: found for found in check_tokens(counts, cut, **more)}


def refusal(checks: dict[str, TokenCheck]) -> DatasetInvalid:
    with pytest.raises(DatasetInvalid) as caught:
        refuse_failed(list(checks.values()))
    return caught.value


SHORT = [talk(n, f"Question {n}?", f"Réponse {n}.", "And then?", f"More of {n}.") for n in range(1, 41)]


@pytest.mark.parametrize(
    "model", [models.chatml_model, models.gemma_model, lambda folder: models.llama2_model(folder, legacy=True)]
)
def test_ordinary_rows_pass_every_check_under_every_kind_of_template(tmp_path: Path, model) -> None:  # type: ignore[no-untyped-def]
    counts = count(tmp_path, SHORT, model(tmp_path / "model"))
    assert {(row.answers, len(row.ends), row.starts) for row in counts} == {(2, 2, 1)}
    checks = check(counts)
    assert len(checks) == 5 and {found.status for found in checks.values()} == {"passed"}
    refuse_failed(list(checks.values()))


def test_ends_lie_where_the_trained_answers_are_closed(tmp_path: Path) -> None:
    renderer = Renderer.load(models.chatml_model(tmp_path))
    encoded = renderer.encode(SHORT[0], 4096)
    ends = list(find_ends(encoded.ids, encoded.trained, renderer.stop_ids))
    assert [renderer.decode([encoded.ids[end - 1]], skip_special=False) for end in ends] == ["<|im_end|>"] * 2
    answers = [renderer.decode(encoded.ids[end - 12 : end]) for end in ends]
    assert answers[0].endswith("Réponse 1.") and answers[1].endswith("More of 1.")


def test_a_template_that_closes_no_answer_is_refused_for_conversations_of_several_answers(tmp_path: Path) -> None:
    model = models.chatml_model(tmp_path / "model", PLAIN_TURNS)
    error = refusal(check(count(tmp_path, SHORT, model)))
    assert error.key == "dataset_invalid.ends_untrained" and "50.0 %" in error.message
    assert [detail["row"] for detail in error.details] == [1, 2, 3, 4, 5]
    single = [talk(n, f"Question {n}?", "Answer.") for n in range(1, 9)]
    assert check(count(tmp_path, single, model))["end_of_turn"].status == "passed"


def test_a_cut_that_takes_the_ends_warns_and_is_refused_where_a_person_asked_for_it(tmp_path: Path) -> None:
    rows = [talk(n, "Count.", "one two three " * (40 if n <= 4 else 1)) for n in range(1, 101)]
    counts = count(tmp_path, rows, models.chatml_model(tmp_path / "model"))
    longest_short = max(row.length for row in counts[4:])
    automatic = check(counts, Cut(max_length=longest_short, long_rows="truncate"))["end_of_turn"]
    assert (automatic.status, automatic.share, automatic.rows) == ("warning", 0.96, [1, 2, 3, 4])
    chosen = check(counts, Cut(max_length=longest_short, long_rows="truncate", chosen=True))
    assert refusal(chosen).key == "dataset_invalid.ends_cut"
    for treatment in ("drop", "split"):
        kept = check(counts, Cut(max_length=longest_short, long_rows=treatment, chosen=True))["end_of_turn"]  # type: ignore[arg-type]
        assert (kept.status, kept.share) == ("passed", 1.0)
    judged = check(counts, Cut(max_length=longest_short, long_rows="split", divisible=False))["end_of_turn"]
    assert judged.status == "warning"
    assert refusal(check(counts, Cut(max_length=8, long_rows="drop"))).key == "dataset_invalid.all_dropped"


def test_rows_that_were_already_written_for_a_model_are_refused_and_a_single_one_only_warns(tmp_path: Path) -> None:
    written = "<|im_start|>user\nWhen?<|im_end|>\n<|im_start|>assistant\n"
    model = models.chatml_model(tmp_path / "model")
    error = refusal(check(count(tmp_path, [talk(n, written, "Now.") for n in range(1, 9)], model)))
    assert error.key == "dataset_invalid.template_doubled"
    few = [talk(1, written, "Now."), *(talk(n, f"When {n}?", "Now.") for n in range(2, 102))]
    warned = check(count(tmp_path, few, model))["single_template"]
    assert (warned.status, warned.rows) == ("warning", [1])


@pytest.mark.parametrize(
    "text", ["[INST] Hello [/INST]", "### Instruction:\nAdd.\n\n### Response:\n", "<start_of_turn>user\nHi", "<|user|>\nHi"]
)
def test_the_marks_of_known_templates_are_seen(text: str) -> None:
    assert holds_template(talk(1, text, "x")) and not holds_template(Example(row=1, text=text))


@pytest.mark.parametrize("text", ["### Instruction: the manual", "list[INST]", "user: hi", "<b>user</b>", "im_start is a token"])
def test_ordinary_text_is_not_taken_for_a_template(text: str) -> None:
    assert not holds_template(talk(1, text, "x"))


def test_a_start_token_written_twice_is_refused(tmp_path: Path) -> None:
    template = "{{ bos_token }}" + models.GEMMA_TEMPLATE
    tokenizer = models.sentencepiece_tokenizer(["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"], legacy=True)
    model = models.save_model(tmp_path / "model", tokenizer, template, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>")
    assert refusal(check(count(tmp_path, SHORT, model))).key == "dataset_invalid.start_doubled"


def test_rows_with_hardly_a_trained_token_are_refused_unless_the_answers_are_classes(tmp_path: Path) -> None:
    rows = [talk(n, f"word {n} " * 300, "yes") for n in range(1, 5)]
    counts = count(tmp_path, rows, models.chatml_model(tmp_path / "model"))
    assert refusal(check(counts)).key == "dataset_invalid.little_trained"
    assert check(counts, classes=True)["trained_share"].status == "passed"


def test_rows_that_the_template_cannot_write_are_counted_and_named(tmp_path: Path) -> None:
    model = models.llama2_model(tmp_path / "model", legacy=True, template=models.MISTRAL_TEMPLATE)
    greeting = Example(row=7, messages=[Message(role="assistant", content="Hello")])
    some = check(count(tmp_path, [greeting, *SHORT], model))["renderable"]
    assert (some.status, some.params, some.rows) == ("warning", {"refused": 1, "rows": 41}, [7])
    assert refusal(check(count(tmp_path, [greeting], model))).key == "dataset_invalid.none_renderable"


def test_plain_text_is_closed_and_counts_as_one_answer(tmp_path: Path) -> None:
    counts = count(tmp_path, [Example(row=1, text="Some text.")], models.chatml_model(tmp_path / "model"))
    assert (counts[0].answers, counts[0].ends) == (1, (counts[0].length,))


def test_a_histogram_counts_every_row_once_and_reaches_to_the_cut() -> None:
    lengths = [10] * 50 + [100] * 30 + [300] * 19 + [9000]
    bins = count_lengths(lengths, 512)
    assert sum(found.rows for found in bins) == 100 and len(bins) <= 33
    assert bins[0].first == 1 and bins[-1].last is None and bins[-1].rows == 1
    assert all(before.last is not None and before.last + 1 == after.first for before, after in pairwise(bins))
    assert bins[-1].first > 512
    assert count_lengths([7], 512)[0].rows + sum(found.rows for found in count_lengths([7], 512)[1:]) == 1
    assert count_lengths([], 512) == []


def test_what_a_cut_takes_is_counted_in_rows_and_tokens() -> None:
    lengths = [100, 100, 300]
    assert share_cut(lengths, 200, "truncate") == (1 / 3, 100 / 500)
    assert share_cut(lengths, 200, "drop") == (1 / 3, 300 / 500)
    assert share_cut(lengths, 200, "split") == (1 / 3, 0.0)
    assert share_cut(lengths, 300, "truncate") == (0.0, 0.0)
