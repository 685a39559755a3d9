"""Files of other programs and collections, written by hand in their form, and what must come of each.

Found on a walk through the field in November 2026; the outcomes were decided before the program was mended to give them.
"""
# ruff: noqa: E501 - tables of files

import gzip
import io
import json
import tarfile
import zipfile

from tests.unit.datasets.odd_files import FR, FR_FIRST, PAIR, QA, USUAL, Odd, lines, turns, zipped


def tarred() -> bytes:
    """Return a tar archive with one table."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("a.csv")
        member.size = len(QA)
        archive.addfile(member, io.BytesIO(QA.encode()))
    return packed.getvalue()


def locked() -> bytes:
    """Return a zip archive whose member is marked as encrypted, in both of its headers."""
    content = bytearray(zipped(a__csv=QA.encode()))
    content[content.index(b"PK\x03\x04") + 6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def bomb() -> bytes:
    """Return a zip archive of 100 MB of one letter."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.csv", "w") as member:
        for _ in range(100):
            member.write(b"a" * 1_000_000)
    return packed.getvalue()


ASKED = turns("Why?")
GOOD, BAD = turns("Why?", "good"), turns("Why?", "bad")
SQUAD = {
    "version": "1.1",
    "data": [
        {
            "title": "France",
            "paragraphs": [
                {
                    "context": "Paris is the capital of France.",
                    "qas": [
                        {"id": "1", "question": "What is the capital?", "answers": [{"text": "Paris", "answer_start": 0}]},
                        {"id": "2", "question": "Who knows?", "is_impossible": True, "answers": []},
                    ],
                }
            ],
        }
    ],
}
SQUAD_FIRST = ("What is the capital?\n\nParis is the capital of France.", "Paris")

TABLES = [
    Odd(
        "spaced.csv",
        b'question, answer\n"Where, then, is it?", "Over there."\n"When?", "Now"\n',
        "usable csv question_answer 2",
        first=("Where, then, is it?", "Over there."),
    ),
    Odd(
        "table.md",
        b"| question | answer |\n|:---|---:|\n| Where is it? | Over there. |\n",
        "usable csv question_answer 1",
        first=USUAL,
    ),
    Odd(
        "latin9.csv",
        "question;réponse\nPrix ?;12 € à l'œil\nOù ?;Là\n".encode("iso8859-15"),
        "usable csv question_answer 2",
        ("guessed_encoding",),
        ("Prix ?", "12 € à l'œil"),
    ),
    Odd("old-mac.csv", FR.replace("€", "F").encode("mac_roman"), "usable csv question_answer 2", ("guessed_encoding",), FR_FIRST),
    Odd(
        "dos.csv",
        FR.replace("’", "'").replace("€", "F").encode("cp850"),
        "usable csv question_answer 2",
        ("guessed_encoding",),
        ("Où êtes-vous ?", "À Mâcon, près de l'église."),
    ),
    Odd(
        "russian.csv",
        ("question,answer\n" + "Где находится вокзал?,Вокзал находится в центре города.\n" * 9).encode("koi8-r"),
        "usable csv question_answer 9",
        ("guessed_encoding",),
        ("Где находится вокзал?", "Вокзал находится в центре города."),
    ),
    Odd(
        "log.txt",
        b"2026-01-01 12:00:00 INFO server started\n2026-01-01 12:00:01 INFO server stopped\n" * 5,
        "usable text text 10",
        first=("2026-01-01 12:00:00 INFO server started",),
    ),
    Odd("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><g/></svg>\n", "refused unsupported.markup"),
    Odd("archive.tar", tarred, "refused unsupported.compressed"),
    Odd("archive.tar.gz", lambda: gzip.compress(tarred(), mtime=0), "refused unsupported.compressed"),
    Odd("locked.zip", locked, "refused dataset_invalid.archive_password"),
    Odd("bomb.zip", bomb, "refused too_large.packed_too_well"),
]

SHAPES = [
    Odd("squad.json", json.dumps(SQUAD).encode(), "usable jsonl question_answer 1", ("unwrapped", "empty_answer"), SQUAD_FIRST),
    Odd(
        "squad.jsonl",
        lines(*({"context": "Paris is the capital of France.", "question": "What is the capital?", "answers": {"text": ["Paris", "paris"], "answer_start": [0, 0]}} for _ in range(3))),
        "usable jsonl question_answer 3", first=SQUAD_FIRST,
    ),
    Odd("splits.json", json.dumps({"meta": {"n": 2}, "train": [PAIR], "test": [{"question": "c?", "answer": "d"}]}).encode(), "usable jsonl question_answer 2", ("unwrapped",), USUAL),
    Odd("by-name.json", json.dumps({"first": PAIR, "second": {"question": "c?", "answer": "d"}}).encode(), "usable jsonl question_answer 2", ("unwrapped",), USUAL),
    Odd("swift-pairs.jsonl", lines({"query": "Why?", "response": "good", "rejected_response": "bad"}), "usable jsonl preference 1", first=("Why?", "good")),
    Odd("swift-chat-pairs.jsonl", lines({"messages": GOOD, "rejected_response": "bad"}), "usable jsonl preference 1", first=("Why?", "good")),
    Odd("swift-two-chats.jsonl", lines({"messages": GOOD, "rejected_messages": BAD}), "usable jsonl preference 1", first=("Why?", "good")),
    Odd("same-answers.jsonl", lines({"messages": GOOD, "rejected_response": "good"}, {"messages": GOOD, "rejected_response": "bad"}), "usable jsonl preference 1", ("same_answers",)),
    Odd("ultrafeedback.jsonl", lines({"instruction": "Why?", "models": ["a", "b"], "completions": [{"response": "good", "overall_score": 8.5}, {"response": "bad", "overall_score": 2}]}), "refused dataset_invalid.answer_lists"),
    Odd("answers-in-json.jsonl", lines({"prompt": "Which towns?", "completion": '["Paris", "Lyon"]'}, {"prompt": "Which rivers?", "completion": '["Seine"]'}), "usable jsonl prompt_completion 2", first=("Which towns?", '["Paris", "Lyon"]')),
    Odd("many-answers.jsonl", lines({"prompt": "Why?", "completions": ["a", "b"]}), "refused dataset_invalid.answer_lists"),
    Odd("ultrafeedback-pairs.jsonl", lines({"prompt": "Why?", "chosen": GOOD, "rejected": BAD, "messages": GOOD, "score_chosen": 8.0}), "usable jsonl preference 1", ("columns_unread",), first=("Why?", "good")),
    Odd("kto-chat.jsonl", lines({"prompt": ASKED, "completion": [{"role": "assistant", "content": "A"}], "label": True}), "usable jsonl unpaired 1", first=("Why?", "A")),
    Odd(
        "legacy-functions.jsonl",
        lines({"messages": [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": None, "function_call": {"name": "w", "arguments": "{}"}}, {"role": "function", "name": "w", "content": "21"}, {"role": "assistant", "content": "Mild."}], "functions": [{"name": "w"}]}),
        "usable jsonl messages 1", ("tools_unread",), ("Weather?", '<tool_call>\n{"name": "w", "arguments": {}}\n</tool_call>', "21", "Mild."),
    ),
    Odd("gemini.jsonl", lines({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}, {"role": "model", "parts": [{"text": "Hello"}]}]}), "usable jsonl messages 1", first=("Hi", "Hello")),
    Odd("cohere.jsonl", lines({"messages": [{"role": "System", "content": "S"}, {"role": "User", "content": "Hi"}, {"role": "Chatbot", "content": "Hello"}]}), "usable jsonl messages 1", first=("S", "Hi", "Hello")),
    Odd("flan.jsonl", lines({"inputs": "Translate: cat", "targets": "chat"}), "usable jsonl prompt_completion 1", first=("Translate: cat", "chat")),
    Odd("only-answers.jsonl", lines({"messages": [{"role": "system", "content": "S"}, {"role": "assistant", "content": "A"}]}, {"messages": [{"role": "assistant", "content": "Hello!"}, *GOOD]}), "usable jsonl messages 1", ("no_question",), ("Hello!", "Why?", "good")),
    Odd("summaries.jsonl", lines({"article": "A long article text of some length stands here.", "highlights": "Short."}), "needs_mapping jsonl prompt_completion 1", first=("A long article text of some length stands here.", "Short.")),
    Odd("helpsteer.jsonl", lines({"prompt": "Why?", "response": "Because.", "helpfulness": 4, "verbosity": 1}), "usable jsonl prompt_completion 1", ("columns_unread",), first=("Why?", "Because.")),
    Odd("two-texts.jsonl", lines(*({"text": f"A text of some length, number {n}, stands here.", "comment": "What somebody has to say about it, at some length."} for n in range(3))), "needs_mapping jsonl text 3", ("columns_unread",)),
    Odd("two-responses.jsonl", lines({"prompt": "How are you?", "response_0": "I am fine.", "response_1": "Go away.", "better_response_id": 0}), "refused dataset_invalid.no_shape"),
    Odd("prompt-and-what.jsonl", lines({"prompt": "How are you?", "was": "I am fine, thanks."}), "needs_mapping jsonl question_answer 1"),
    Odd("choices.jsonl", lines({"question": "2 + 2?", "choices": ["3", "4"], "answer": 1}), "needs_mapping jsonl question_answer 1", ("columns_unread",)),
    Odd("two-answers.jsonl", lines({"problem": "2 + 2?", "solution": "Add them: 4", "answer": "4"}), "needs_mapping jsonl question_answer 1", ("columns_unread",)),
    Odd("news.jsonl", lines(*({"label": str(n % 4), "title": f"Title {n}", "description": f"The description of news number {n} is long."} for n in range(20))), "needs_mapping jsonl classification 20", ("columns_unread",)),
    Odd("marks.jsonl", lines(*({"text": f"<|im_start|>user\nHi {n}<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"} for n in range(3))), "needs_mapping jsonl text 3", ("template_marks",)),
    Odd("marks.txt", b"<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n" * 3, "needs_mapping text text 12", ("template_marks",)),
]  # fmt: skip

OTHER_TOOLS = [*TABLES, *SHAPES]
