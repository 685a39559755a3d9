"""Files as a stranger would try them, and what must come of each: transcripts, turns in other spellings, columns of Parquet.

Found on a second walk in November 2026 by stating what is to be expected of 1,181 files before any was read.
"""
# ruff: noqa: E501 - tables of files

import io
import zipfile

import pyarrow
from pyarrow import parquet

from tests.unit.datasets.odd_files import QA, USUAL, Odd, lines, turns


def zipped(*members: tuple[str, bytes]) -> bytes:
    """Return a zip archive."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return packed.getvalue()


def columnar(table: pyarrow.Table) -> bytes:
    """Return a Parquet file."""
    packed = io.BytesIO()
    parquet.write_table(table, packed)
    return packed.getvalue()


def timed() -> bytes:
    """Return questions with instants to the nanosecond, as pandas writes them."""
    at = pyarrow.array([1773320645678901234, None], pyarrow.timestamp("ns", "UTC"))
    took = pyarrow.array([1, 2], pyarrow.duration("ns"))
    nested = pyarrow.StructArray.from_arrays([at], names=["at"])
    return columnar(
        pyarrow.table(
            {"question": ["Where is it?", "Who?"], "answer": ["Over there.", "Me."], "at": at, "took": took, "nested": nested}
        )
    )


def named_twice() -> bytes:
    """Return a table of two columns called "answer"."""
    columns = [pyarrow.array([text]) for text in ("Where is it?", "Over there.", "Nowhere.")]
    return columnar(pyarrow.Table.from_arrays(columns, names=["question", "answer", "answer"]))


def transcript(*said: str) -> str:
    """Return a conversation as HH-RLHF writes it."""
    return "".join(f"\n\n{('Human', 'Assistant')[place % 2]}: {text}" for place, text in enumerate(said)).rstrip(" ")


GOOD, BAD = turns("Why?", "good"), turns("Why?", "bad")
THREE = range(3)

STRANGERS = [
    Odd("half-transcript.jsonl", lines({"chosen": transcript("Why?", "good"), "rejected": transcript("Why?", "")}, {"chosen": transcript("Why?", "good"), "rejected": transcript("Why?", "bad")}), "usable jsonl preference 1", ("empty_turn",), ("Why?", "good")),
    Odd("transcript-prompts.jsonl", lines({"prompt": transcript("Why?", ""), "chosen": " good", "rejected": " bad"}), "usable jsonl preference 1", first=("Why?", "good")),
    Odd("long-transcript-prompts.jsonl", lines({"prompt": transcript("Hi", "Hello", "Why?", ""), "chosen": "good", "rejected": "bad"}), "usable jsonl preference 1", first=("Hi", "Hello", "Why?", "good")),
    Odd("two-questions.jsonl", lines({"chosen": turns("Why?", "good"), "rejected": turns("When?", "bad")}, {"chosen": GOOD, "rejected": BAD}), "usable jsonl preference 1", ("different_prompts",), ("Why?", "good")),
    Odd("from-content.jsonl", lines({"conversations": turns("Hi", "Hello", roles=("human", "gpt"), keys=("from", "content"))}), "usable jsonl sharegpt 1", first=("Hi", "Hello")),
    Odd("role-value.jsonl", lines({"conversations": turns("Hi", "Hello", keys=("role", "value"))}), "usable jsonl messages 1", first=("Hi", "Hello")),
    Odd("role-text.jsonl", lines({"messages": turns("Hi", "Hello", keys=("role", "text"))}), "usable jsonl messages 1", first=("Hi", "Hello")),
    Odd("xtuner.json", lines({"conversation": [{"system": "S", "input": "Hi", "output": "Hello"}, {"input": "And you?", "output": "Fine."}]}), "usable jsonl sharegpt 1", first=("S", "Hi", "Hello", "And you?", "Fine.")),
    Odd("capybara.jsonl", lines({"source": "x", "conversation": [{"input": "Hi", "output": "Hello"}]}), "usable jsonl sharegpt 1", ("columns_unread",), first=("Hi", "Hello")),
    Odd("french-keys.jsonl", lines({"conversation": turns("Salut", "Bonjour", keys=("rôle", "contenu"))}), "refused dataset_invalid.no_usable_rows"),
    Odd("french-roles.jsonl", lines({"messages": [{"role": "système", "content": "S"}, *turns("Salut", "Bonjour", roles=("utilisateur", "assistant"))]}), "usable jsonl messages 1", first=("S", "Salut", "Bonjour")),
    Odd("llama-tools.jsonl", lines({"messages": [*turns("Weather?", "<call>"), {"role": "ipython", "content": "21"}, {"role": "assistant", "content": "Mild."}]}), "usable jsonl messages 1", first=("Weather?", "<call>", "21", "Mild.")),
    Odd("reasoning.jsonl", lines({"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "reasoning": "Add.", "content": "4"}]}), "usable jsonl messages 1", first=("2 + 2?", "<think>\nAdd.\n</think>\n\n4")),
    Odd("bedrock.jsonl", lines({"system": [{"text": "S"}], "messages": [{"role": "user", "content": [{"text": "Hi"}]}, {"role": "assistant", "content": [{"text": "Hello"}]}]}), "usable jsonl messages 1", first=("S", "Hi", "Hello")),
    Odd("gemini-system.jsonl", lines({"systemInstruction": {"role": "system", "parts": [{"text": "S"}]}, "contents": [{"role": "user", "parts": [{"text": "Hi"}]}, {"role": "model", "parts": [{"text": "Hello"}]}]}), "usable jsonl messages 1", first=("S", "Hi", "Hello")),
    Odd("guanaco.jsonl", lines(*({"text": f"### Human: What is {n}?### Assistant: It is a number, of course."} for n in THREE)), "needs_mapping jsonl text 3", ("template_marks",)),
    Odd("alpaca-texts.jsonl", lines(*({"text": f"Below is an instruction.\n\n### Instruction:\nSay {n}.\n\n### Response:\n{n}"} for n in THREE)), "needs_mapping jsonl text 3", ("template_marks",)),
    Odd("yes-or-no.jsonl", lines(*({"text": f"Message number {n} came in.", "label": n % 2 == 0} for n in range(12))), "usable jsonl classification 12", first=("Message number 0 came in.", "true")),
    Odd("scores.jsonl", lines(*({"text": f"The film number {n} is worth being seen by everybody.", "label": n / 7} for n in range(20))), "needs_mapping jsonl text 20", ("columns_unread",)),
    Odd("expected-answer.csv", "instruction;entrée;réponse attendue\nTraduis;chat;cat\nTraduis;chien;dog\n".encode(), "needs_mapping csv alpaca 2", first=("Traduis\n\nchat", "cat")),
    Odd("chosen-by-number.jsonl", lines({"prompt": "Why?", "response_0": "So", "response_1": "Otherwise", "better_response_id": 0}), "refused dataset_invalid.no_shape"),
    Odd("two-outputs.jsonl", lines({"instruction": "Sort", "output_1": "a then b", "output_2": "b then a", "preference": 1}), "refused dataset_invalid.no_shape"),
    Odd("nanoseconds.parquet", timed, "usable parquet question_answer 2", ("columns_unread",), USUAL),
    Odd("named-twice.parquet", named_twice, "usable parquet question_answer 1", ("columns_unread",), USUAL),
    Odd("from-a-mac.zip", zipped(("d/a.csv", QA.encode()), ("d/._a.csv", b"\0\5\x16\7")), "usable csv question_answer 2", first=USUAL),
]  # fmt: skip
