"""How answers are judged beside the expected ones."""

import pytest

from app.datasets.judging import holds, is_json, is_same, is_same_json, overlap


@pytest.mark.parametrize(
    ("answer", "expected", "same"),
    [
        ("Paris.", " paris", True),
        ("PARIS !", "Paris", True),
        ("ﬁn", "fin", True),
        ("Paris, France", "Paris", False),
        ("", "Paris", False),
    ],
)
def test_case_spaces_and_a_full_stop_do_not_matter(answer: str, expected: str, same: bool) -> None:
    assert is_same(answer, expected) is same


def test_overlap_is_the_f1_of_the_shared_words() -> None:
    assert overlap("the red fox", "the red fox") == 1
    assert overlap("the red fox", "a blue cat") == 0
    assert overlap("the red fox runs", "the fox") == pytest.approx(2 * 2 / (4 + 2))
    assert overlap("the the the", "the fox") == pytest.approx(2 * 1 / (3 + 2)), "a word that is repeated counts once"
    assert overlap("東京です", "東京だ") == pytest.approx(2 * 2 / (4 + 3)), "scripts without spaces go by character"
    assert overlap("", "") == 1 and overlap("...", "a") == 0


def test_json_is_compared_by_meaning() -> None:
    assert is_same_json('{"a": 1, "b": [2]}', '{"b":[2],"a":1}')
    assert not is_same_json('{"a": 1}', '{"a": 2}') and not is_same_json("a", "a")
    assert is_json("[]") and not is_json("12") and not is_json("{a: 1}") and not is_json("[" * 100_000)


def test_a_fact_counts_as_known_only_as_a_whole_word() -> None:
    assert holds("It is Paris, of course.", ["paris"]) and holds("« Petit ».", ["petit"])
    assert not holds("Comparison", ["paris"]) and not holds("15", ["5"])
