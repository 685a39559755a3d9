"""The second look at rows: each kind of finding where it should be, and none where it should not."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from app.contracts.analysis import Analysis
from app.datasets.findings.analysing import analyse
from app.datasets.findings.answers import find_refusal, is_placeholder
from app.datasets.findings.languages import find_language
from app.datasets.findings.near_duplicates import split_words
from app.datasets.findings.patterns import find_patterns, is_account_number, is_card_number, mask
from app.datasets.importing import import_file
from app.storage.dataset_dir import DatasetDir

SUBJECTS = (
    "kettle",
    "ladder",
    "candle",
    "bridge",
    "violin",
    "garden",
    "anchor",
    "ribbon",
    "saddle",
    "turbine",
    "lantern",
    "compass",
)
PLACES = ("Lyon", "Oslo", "Porto", "Ghent", "Turin", "Basel", "Malmo", "Delft", "Tours", "Parma")


def question(number: int) -> str:
    subject, place = SUBJECTS[number % 12], PLACES[number // 12 % 10]
    return f"Who repaired the old {subject} of {place} in {1800 + number}, and for how much?"


def answer(number: int) -> str:
    words = [SUBJECTS[(number * step + step) % 12] for step in (1, 5, 7)]
    return f"It was the guild of the {words[0]} makers, for {number + 3} crowns, a {words[1]} and one {words[2]} each year."


def pairs(count: int) -> list[dict[str, Any]]:
    return [{"question": question(number), "answer": answer(number)} for number in range(count)]


def look(tmp_path: Path, rows: list[dict[str, Any]]) -> Analysis:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    target = DatasetDir(tmp_path / "ds")
    import_file(file, filename=file.name, name=None, target=target)
    found = analyse(target)
    assert target.find_analysis() == found and not (target.path / ".analysis.new").exists()
    return found


def found_rows(analysis: Analysis) -> dict[str, list[tuple[int, int | None]]]:
    return {finding.code: [(row.row, row.other) for row in finding.rows] for finding in analysis.findings}


def test_ordinary_rows_have_no_finding(tmp_path: Path) -> None:
    analysis = look(tmp_path, pairs(120))
    assert found_rows(analysis) == {}
    assert analysis.rows == 120 and analysis.languages.keys() <= {"en"}


def test_every_kind_of_finding_names_its_rows(tmp_path: Path) -> None:
    rows = pairs(100)
    rows.append({"question": question(3), "answer": answer(3)})  # 101
    long = " ".join(f"{word}{number}" for number in range(20) for word in SUBJECTS[:3])
    rows.append({"question": f"Repeat: {long}", "answer": "Done and written down."})  # 102
    rows.append({"question": f"Repeat: {long} once", "answer": "Done and written down."})  # 103
    rows.append({"question": question(7), "answer": "Nobody knows it any more, the book of the town was lost."})  # 104
    rows.append({"question": "How is the weather?", "answer": "As an AI language model, I cannot look outside."})  # 105
    rows.append({"question": "What is the code?", "answer": "<TODO>"})  # 106
    rows.append({"question": "Who answers?", "answer": "Write to jean.dupont@exemple.fr or call 01 23 45 67 89."})  # 107
    rows.append({"question": "Which key?", "answer": "Use AKIA" + "Q" * 16 + " for it."})  # 108
    rows.append({"question": "Où est la clé ?", "answer": "La clé est dans le tiroir de la table, et elle est pour vous."})  # 109
    rows.append({"question": "Tell it all.", "answer": "It was the guild. " * 400})  # 110
    analysis = look(tmp_path, rows)
    assert found_rows(analysis) == {
        "exact_duplicates": [(101, 4)],
        "near_duplicates": [(103, 102)],
        "contradictions": [(104, 8)],
        "refusals": [(105, None)],
        "placeholders": [(106, None)],
        "other_languages": [(109, None)],
        "unusual_lengths": [(106, None), (110, None)],
        "emails": [(107, None)],
        "phones": [(107, None)],
        "secrets": [(108, None)],
        "heldout_overlap": [(102, 103)],
    }
    assert [finding.count for finding in analysis.findings if finding.code == "secrets"] == [1]
    shown = next(finding for finding in analysis.findings if finding.code == "secrets").rows[0].text
    assert shown == "AKIA…"  # a key is not spread further


def test_a_held_out_row_that_nearly_repeats_a_trained_one_is_found(tmp_path: Path) -> None:
    rows = [{**row, "split": "train"} for row in pairs(60)]
    long = " ".join(f"{word}{number}" for number in range(20) for word in SUBJECTS[:3])
    rows += [
        {"question": f"Repeat: {long}", "answer": "Done and written down.", "split": "train"},
        {"question": f"Repeat: {long} once", "answer": "Done and written down.", "split": "test"},
        {"question": "Something else?", "answer": "Yes, that as well.", "split": "test"},
    ]
    assert found_rows(look(tmp_path, rows))["heldout_overlap"] == [(62, 61)]


def test_answers_of_preference_data_and_classes_do_not_contradict_each_other(tmp_path: Path) -> None:
    rows = [{"prompt": question(n // 2), "chosen": answer(n), "rejected": answer(n + 1)} for n in range(60)]
    assert "contradictions" not in found_rows(look(tmp_path / "pairs", _made(tmp_path / "pairs", rows)))
    labels = [{"text": question(n), "label": ("none", "todo")[n % 2]} for n in range(60)]
    assert "placeholders" not in found_rows(look(tmp_path / "classes", _made(tmp_path / "classes", labels)))


def _made(folder: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    folder.mkdir()
    return rows


def test_near_duplicates_are_found_among_many_rows_and_different_ones_are_not(tmp_path: Path) -> None:
    words, chance = [f"w{number}" for number in range(400)], random.Random(5)
    rows, wanted = [], []
    for number in range(300):
        text = chance.choices(words, k=60)
        rows.append({"text": " ".join(text) + f" number{number}"})
        if number % 3 == 0:  # one word of sixty: 3 of 59 runs change
            wanted.append(len(rows) + 1)
            rows.append({"text": " ".join(["other", *text[1:]]) + f" number{number}"})
    found = {row for row, _ in found_rows(look(tmp_path, rows)).get("near_duplicates", [])}
    count = next(f.count for f in analyse(DatasetDir(tmp_path / "ds")).findings if f.code == "near_duplicates")
    assert found <= set(wanted) and count >= 98


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("mail a.b+c@example.co.uk now", ["emails"]),
        ("not@an address, @nor this", []),
        ("call +33 1 23 45 67 89", ["phones"]),
        ("call (555) 123-4567", ["phones"]),
        ("call 06.12.34.56.78.", ["phones"]),
        ("in 1914-1918 there were 12 345 678 of them, 3.14159265358979", []),
        ("the id 20231105123456789 is none", []),
        ("card 4111 1111 1111 1111", ["secrets"]),
        ("card 4111 1111 1111 1112", []),
        ("IBAN FR76 3000 6000 0112 3456 7890 189", ["secrets"]),
        ("IBAN FR76 3000 6000 0112 3456 7890 188", []),
        ("token ghp_" + "a1B2" * 9, ["secrets"]),
        ("hf_" + "x" * 34, ["secrets"]),
        ("sk-" + "a" * 40, ["secrets"]),
        ("task-management-for-everybody-here", []),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----", ["secrets"]),
    ],
)
def test_personal_data_and_keys_are_told_from_other_numbers(text: str, codes: list[str]) -> None:
    assert [hit.code for hit in find_patterns(text)] == codes


def test_what_is_masked_is_gone_and_the_rest_stays() -> None:
    text = "Ask anna@example.org, 01 23 45 67 89 or card 4111 1111 1111 1111, not 42."
    assert mask(text, frozenset(("emails", "phones", "secrets"))) == "Ask [email], [phone] or card [secret], not 42."
    assert mask(text, frozenset(("phones",))) == text.replace("01 23 45 67 89", "[phone]")
    assert is_card_number("4111 1111 1111 1111") and is_account_number("GB82 WEST 1234 5698 7654 32")


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Où est la gare ? Au bout de la rue, à dix minutes à pied.", "fr"),
        ("Combien coûte un billet pour la ville ? Douze euros, sans le tarif réduit.", "fr"),
        ("The king of the island was not there when they came, and this is what they found.", "en"),
        ("Le roi n’était pas sur l’île quand ils sont venus, et voici ce que vous avez dans la maison.", "fr"),
        ("Der König war nicht auf der Insel, und das ist es, was sie mit dem Buch von ihm wird.", "de"),
        ("El rey no estaba en la isla cuando las mujeres llegaron, pero los otros también están como antes.", "es"),
        ("Король был на острове, когда они пришли.", "cyrillic"),
        ("王は島にいなかった。彼らが来たとき、", "ja"),
        ("国王不在岛上的时候他们来了", "zh"),
        ("def f(x): return x + 1", None),
        ("42", None),
    ],
)
def test_languages_are_told_apart_and_code_has_none(text: str, language: str | None) -> None:
    assert find_language(text, split_words(text)) == language


def test_refusals_and_placeholders_are_told_from_answers() -> None:
    refusing = (
        "As an AI, I have no body.",
        "I'm sorry, but I can't help with that.",
        "Je suis désolé, mais je ne peux pas répondre.",
    )
    assert all(find_refusal(text) for text in refusing)
    assert not any(map(find_refusal, ("I am sorry you had to wait.", "He was sorry and left.", "Je suis désolé du retard.")))
    assert all(map(is_placeholder, ("N/A", "<noinput>", "...", "TODO", "à compléter", " - ")))
    assert not any(map(is_placeholder, ("No", "7", "é", "👍", "Nothing.", "-1")))
