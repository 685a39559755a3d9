"""Which rows are held out: a fair picture of all rows, none of it trained."""

import random
from collections import Counter

import pytest

from app.contracts.dataset import PlainExample
from app.datasets import splitting
from app.datasets.splitting import RowKeys, share_out


def pair(row: int, question: str, answer: str, desirable: bool | None = None) -> PlainExample:
    example: PlainExample = {
        "row": row,
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
    }
    if desirable is not None:
        example["desirable"] = desirable
    return example


def choose(examples: list[PlainExample]) -> list[PlainExample]:
    keys = RowKeys()
    for example in examples:
        keys.add(example)
    return [example for example, held in zip(examples, keys.choose_heldout(), strict=True) if held]


def answer_of(example: PlainExample) -> str:
    return example["messages"][-1]["content"]


def test_every_class_gives_its_share_of_the_held_out_rows() -> None:
    classes = ["joy"] * 700 + ["anger"] * 250 + ["fear"] * 50
    held = choose([pair(n, f"Text number {n} about something", label) for n, label in enumerate(classes, 1)])
    assert Counter(map(answer_of, held)) == {"joy": 70, "anger": 25, "fear": 5}


def test_short_and_long_rows_are_held_out_in_proportion() -> None:
    rows = [pair(n, f"Question {n}?", f"{n} " * (2 if n % 10 else 400)) for n in range(1, 1001)]
    lengths = Counter(len(answer_of(example)) > 100 for example in choose(rows))
    assert lengths == {False: 90, True: 10}


def test_good_and_bad_answers_are_held_out_in_proportion() -> None:
    rows = [pair(n, f"Question {n:04d}?", f"Answer {n:04d}.", desirable=n % 4 == 0) for n in range(1, 401)]
    assert Counter(example["desirable"] for example in choose(rows)) == {False: 30, True: 10}


def test_the_choice_does_not_depend_on_the_order_of_the_rows_even_where_a_prompt_has_several_classes() -> None:
    rows = [pair(n, f"Text {n % 150}", ("good", "bad", "fair")[n % 7 % 3]) for n in range(600)]
    shuffled = random.Random(1).sample(rows, len(rows))
    assert {example["row"] for example in choose(rows)} == {example["row"] for example in choose(shuffled)}


def test_many_rows_are_split_as_exactly_as_few(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [pair(n, f"Question {n}?", f"{n} " * (2 if n % 10 else 400)) for n in range(1, 3001)]
    monkeypatch.setattr(splitting, "MANY_ROWS", 100)
    held = choose(rows)
    assert len(held) == 300 and sum(len(answer_of(example)) > 100 for example in held) == 30


def test_frequent_prompts_among_many_rows_leave_enough_others_to_choose_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitting, "MANY_ROWS", 100)
    rows = [pair(n, "Tell a story" if n % 2 else f"Question {n}?", f"Answer {n}") for n in range(1000)]
    held = choose(rows)
    assert len(held) == 100 and all(example["row"] % 2 == 0 for example in held)


@pytest.mark.parametrize(
    ("wanted", "sizes", "shares"),
    [(10, [50, 30, 20], [5, 3, 2]), (20, [1, 1, 1], [1, 1, 1]), (2, [5, 5, 5], [1, 1, 0]), (3, [], [])],
)
def test_a_number_is_shared_out_in_whole_numbers(wanted: int, sizes: list[int], shares: list[int]) -> None:
    assert share_out(wanted, sizes) == shares
