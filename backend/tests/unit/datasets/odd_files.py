"""Odd files and what must come of each: the rows of other tools, French offices, careless exports and JSON parsing suites.

Every outcome was written down before the program was asked; nothing here was copied from what it answered.
"""
# ruff: noqa: E501 - tables of files

import bz2
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple


class Odd(NamedTuple):
    """A file and its outcome."""

    name: str
    content: bytes | Callable[[], bytes]
    outcome: str
    """Status, format, shape, usable rows; or `refused` and the key of the sentence."""
    notes: tuple[str, ...] = ()
    """Keys of the remarks, then of the problems of rows, in order."""
    first: tuple[str, ...] = ()
    """The texts of the first usable row, turn by turn."""


def lines(*rows: Any) -> bytes:
    """Return JSON Lines."""
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def turns(*texts: str, roles: tuple[str, str] = ("user", "assistant"), keys: tuple[str, str] = ("role", "content")) -> list[Any]:
    """Return a conversation that begins with the user."""
    return [{keys[0]: roles[place % 2], keys[1]: text} for place, text in enumerate(texts)]


def zipped(**members: bytes) -> bytes:
    """Return a zip archive; `__` in a name stands for a dot, `_in_` for a slash."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name if name.startswith("_") else name.replace("__", ".").replace("_in_", "/"), content)
    return packed.getvalue()


QA = "question,answer\nWhere is it?,Over there.\nWhen is it?,Tomorrow.\n"
FR = "question;réponse\nOù êtes-vous ?;À Mâcon, près de l’église.\nÇa coûte combien ?;12,50 € l’unité.\n"
FR_FIRST = ("Où êtes-vous ?", "À Mâcon, près de l’église.")
USUAL = ("Where is it?", "Over there.")
PAIR = {"question": "Where is it?", "answer": "Over there."}
JSON_TURNS = json.dumps(turns("Hi", "Hello")).replace('"', '""')

CSV = [
    Odd("plain.csv", QA.encode(), "usable csv question_answer 2", first=USUAL),
    Odd("french.csv", FR.encode(), "usable csv question_answer 2", first=FR_FIRST),
    Odd("windows.csv", FR.replace("\n", "\r\n").encode("cp1252"), "usable csv question_answer 2", first=FR_FIRST),
    Odd("mark.csv", FR.encode("utf-8-sig"), "usable csv question_answer 2", first=FR_FIRST),
    Odd("utf16.csv", FR.encode("utf-16"), "usable csv question_answer 2", first=FR_FIRST),
    Odd("utf16-little-no-mark.csv", FR.encode("utf-16-le"), "usable csv question_answer 2", first=FR_FIRST),
    Odd("utf16-big-no-mark.csv", FR.encode("utf-16-be"), "usable csv question_answer 2", first=FR_FIRST),
    Odd("old-mac.csv", QA.replace("\n", "\r").encode(), "usable csv question_answer 2", first=USUAL),
    Odd("no-last-break.csv", QA.strip().encode(), "usable csv question_answer 2", first=USUAL),
    Odd(
        "decimal-comma.csv",
        b"question;answer;note\nCombien ?;12,5 euros, taxes comprises;1,5\nQuand ?;Demain, sans doute;2,25\n",
        "usable csv question_answer 2",
        ("columns_unread",),
        first=("Combien ?", "12,5 euros, taxes comprises"),
    ),
    Odd(
        "declared.csv", ("sep=;\r\n" + FR.replace("\n", "\r\n")).encode("cp1252"), "usable csv question_answer 2", first=FR_FIRST
    ),
    Odd(
        "titles.csv",
        ("Export du 12 mars 2026;\n;\n" + FR).encode(),
        "usable csv question_answer 2",
        ("title_lines",),
        FR_FIRST,
    ),
    Odd(
        "title-above-two.csv",
        ("Foire aux questions;\n" + FR).encode(),
        "usable csv question_answer 2",
        ("title_lines",),
        FR_FIRST,
    ),
    Odd(
        "comments.csv",
        ("# made by a tool\n# version 2\n" + QA).encode(),
        "usable csv question_answer 2",
        ("title_lines",),
        USUAL,
    ),
    Odd(
        "pages-joined.csv",
        (QA + QA).encode(),
        "usable csv question_answer 4",
        ("repeated_headers",),
        USUAL,
    ),
    Odd(
        "twice-answer.csv",
        b"question,answer,answer\nWhere is it?,Over there.,Elsewhere.\nWhen is it?,Tomorrow.,Today.\n",
        "usable csv question_answer 2",
        ("columns_unread",),
        first=USUAL,
    ),
    Odd(
        "no-header.csv",
        b"What is a cat?,It is a small animal.\nWhat is a dog?,It is a loyal animal.\n",
        "needs_mapping csv question_answer 2",
        ("no_header",),
    ),
    Odd(
        "ragged.csv",
        b"question,answer\na?,b.\nshort\nx?,y.,surplus\nc?,d.,\n",
        "usable csv question_answer 2",
        ("cells_missing", "cells_surplus"),
    ),
    Odd(
        "empty-cells.csv",
        b"question,answer\na?,\n,b.\n , \nc?,d.\n",
        "usable csv question_answer 1",
        ("empty_answer", "empty_prompt", "empty_row"),
    ),
    Odd("trailing-commas.csv", b"question,answer,,\na?,b.,,\nc?,d.,,\n", "usable csv question_answer 2", first=("a?", "b.")),
    Odd(
        "quotes.csv",
        b'question,answer\n"Say ""hi"", please","He said ""hi"".\nTwice."\n',
        "usable csv question_answer 1",
        first=('Say "hi", please', 'He said "hi".\nTwice.'),
    ),
    Odd(
        "backslashes.csv",
        b'question,answer\n"Say \\"hi\\", please","C:\\\\temp, \\"here\\""\n"a, b","c, d"\n',
        "usable csv question_answer 2",
    ),
    Odd(
        "bare-quotes.tsv",
        b'question\tanswer\nHow big is a 5" disk?\tAbout 13 cm.\n"Open\tNo close.\n',
        "usable csv question_answer 2",
        ("plain_quotes",),
        ('How big is a 5" disk?', "About 13 cm."),
    ),
    Odd(
        "bad-quote.csv",
        b'question,answer\na?,b.\n"x"y,z\nc?,d.\n',
        "usable csv question_answer 2",
        ("bad_quotes",),
    ),
    Odd("open-quote.csv", b'question,answer\na?,b.\n"never closed,d\ne,f\n', "refused dataset_invalid.open_quote"),
    Odd(
        "single-quotes.csv",
        b"'question','answer'\n'a, b?','c.'\n'd?','e.'\n",
        "usable csv question_answer 2",
        first=("a, b?", "c."),
    ),
    Odd("pipes.txt", QA.replace(",", "|").encode(), "usable csv question_answer 2", first=USUAL),
    Odd("tabs", QA.replace(",", "\t").encode(), "usable csv question_answer 2", first=USUAL),
    Odd("header-only.csv", b"question,answer\n", "refused dataset_invalid.header_only"),
    Odd("blank.csv", b" \r\n\t\r\n", "refused dataset_invalid.empty_file"),
    Odd("zero.csv", QA.replace("there", "the\0re").encode(), "refused dataset_invalid.nul_character"),
    Odd("numbers.csv", b"1,2,3\n4,5,6\n7,8,9\n", "refused dataset_invalid.no_shape"),
    Odd(
        "wide.csv",
        ",".join(f"c{number}" for number in range(3000)).encode() + b"\n1\n",
        "refused dataset_invalid.too_many_columns",
    ),
    Odd("one-column.csv", b"note\n4\n7\n", "refused dataset_invalid.one_column"),
    Odd(
        "texts.csv",
        'texte\n"« Où ? », dit-il."\n"Là-bas, peut-être."\n'.encode(),
        "usable csv text 2",
        first=("« Où ? », dit-il.",),
    ),
    Odd("formulas.csv", b'question,answer\n"=1+1","@SUM(A1)"\n', "usable csv question_answer 1", first=("=1+1", "@SUM(A1)")),
    Odd(
        "narrow-spaces.csv",
        "question;réponse\nÀ qui\u202f?;«\u00a0À\u202fmoi\u00a0!\u00a0»\n".encode(),
        "usable csv question_answer 1",
        first=("À qui\u202f?", "«\u00a0À\u202fmoi\u00a0!\u00a0»"),
    ),
    Odd(
        "json-in-cells.csv",
        f'id,messages\n1,"{JSON_TURNS}"\n'.encode(),
        "usable csv messages 1",
        ("columns_unread",),
        first=("Hi", "Hello"),
    ),
    Odd(
        "python-in-cells.csv",
        b"id,messages\n1,\"[{'role': 'user', 'content': \"\"It's me\"\"}, {'role': 'assistant', 'content': 'Hello', 'x': None}]\"\n",
        "usable csv messages 1",
        ("columns_unread",),
        first=("It's me", "Hello"),
    ),
    Odd("prompts.csv", b"prompt\nWrite a poem about rain.\nWrite a letter to a friend.\n", "refused dataset_invalid.no_answers"),
    Odd(
        "classes.csv",
        b"text,label\n" + b"".join(b"This is film number %d.,%s\n" % (n, [b"good", b"bad"][n % 2]) for n in range(12)),
        "usable csv classification 12",
        first=("This is film number 0.", "good"),
    ),
    Odd(
        "pictures.csv",
        b"image,question,answer\na.png,What is it?,A cat.\nb.png,And this?,A dog.\n",
        "refused dataset_invalid.media_data",
    ),
    Odd("table-named.json", QA.encode(), "refused dataset_invalid.json"),
    Odd("named-wrong.csv", lines(PAIR, PAIR), "usable jsonl question_answer 2", first=USUAL),
    Odd("Données (copie).CSV", FR.encode(), "usable csv question_answer 2", first=FR_FIRST),
]

JSON = [
    Odd("array.json", json.dumps([PAIR, PAIR]).encode(), "usable json question_answer 2", first=USUAL),
    Odd("one.json", json.dumps(PAIR).encode(), "usable jsonl question_answer 1", first=USUAL),
    Odd("marked.json", json.dumps([PAIR]).encode("utf-8-sig"), "usable json question_answer 1", first=USUAL),
    Odd("utf16.json", json.dumps([PAIR]).encode("utf-16"), "usable json question_answer 1", first=USUAL),
    Odd("blank-lines.jsonl", b"\n\n" + lines(PAIR) + b"\r\n \n" + lines(PAIR), "usable jsonl question_answer 2", first=USUAL),
    Odd(
        "joined.json",
        (json.dumps(PAIR, indent=2) * 1 + "\n" + json.dumps(PAIR, indent=2)).encode(),
        "usable json question_answer 2",
    ),
    Odd("glued.json", b'{"question": "a", "answer": "b"}{"question": "c", "answer": "d"}', "refused dataset_invalid.json"),
    Odd(
        "comma-lines.jsonl",
        b'{"question": "a", "answer": "b"},\n{"question": "c", "answer": "d"}\n',
        "refused dataset_invalid.json",
    ),
    Odd("nan.json", b'[{"question": "a", "answer": "b", "score": NaN}]', "refused dataset_invalid.json_constant"),
    Odd("infinity.jsonl", b'{"question": "a", "answer": "b", "score": -Infinity}\n', "refused dataset_invalid.json_constant"),
    Odd("huge-exponent.json", b'[{"question": "a", "answer": "b", "score": 1e400}]', "refused dataset_invalid.json"),
    Odd("huge-exponent.jsonl", b'{"question": "a", "answer": "b", "score": -1e400}\n', "refused dataset_invalid.json"),
    Odd(
        "tiny-exponent.jsonl",
        b'{"question": "a", "answer": "b", "score": 1e-400}\n',
        "usable jsonl question_answer 1",
        ("columns_unread",),
    ),
    Odd(
        "large-number.jsonl",
        b'{"question": "a", "answer": 123456789012345678901234567890}\n',
        "usable jsonl question_answer 1",
        first=("a", "123456789012345678901234567890"),
    ),
    Odd("trailing-comma.json", b'[{"question": "a", "answer": "b"},]', "refused dataset_invalid.json"),
    Odd("comment.json", b'// rows\n[{"question": "a", "answer": "b"}]', "refused dataset_invalid.json"),
    Odd("quotes.json", b"[{'question': 'a', 'answer': 'b'}]", "refused dataset_invalid.json"),
    Odd("cut.json", b'[{"question": "a", "answer": "b"}, {"question"', "refused dataset_invalid.json"),
    Odd("cut-line.jsonl", lines(PAIR) + b'{"question": "a", "ans', "refused dataset_invalid.json"),
    Odd(
        "half-pair.jsonl",
        b'{"question": "a", "answer": "\\ud83d"}\n{"question": "c", "answer": "\\ud83d\\ude00"}\n',
        "usable jsonl question_answer 1",
        ("bad_character",),
        ("c", "\U0001f600"),
    ),
    Odd(
        "deep.json",
        b'[{"question": "a", "answer": "b", "x": ' + b"[" * 110 + b"]" * 110 + b"}]",
        "refused dataset_invalid.json_deep",
    ),
    Odd("deep.jsonl", lines(PAIR) + b'{"a": ' * 120 + b"1" + b"}" * 120, "refused dataset_invalid.json_deep"),
    Odd(
        "twice-named.jsonl",
        b'{"question": "a", "question": "b", "answer": "c"}\n{"question": "d", "answer": "e"}\n',
        "usable jsonl question_answer 2",
        ("repeated_key",),
        ("b", "c"),
    ),
    Odd(
        "half-a-pair.jsonl",
        b'{"question": "a", "answer": "b", "\\ud800": "c"}\n{"question": "\\udfff", "answer": "e"}\n',
        "usable jsonl question_answer 1",
        ("bad_character",),
        ("a", "b"),
    ),
    Odd(
        "half-a-role.json",
        b'[{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},'
        b' {"messages": [{"role": "\\ud800", "content": "a"}]}]',
        "usable json messages 1",
        ("unknown_role",),
        ("a", "b"),
    ),
    Odd("control.json", b'[{"question": "a\tb", "answer": "c"}]', "refused dataset_invalid.json"),
    Odd(
        "columns.json",
        b'{"question": ["a", "b"], "answer": ["c", "d"]}',
        "usable jsonl question_answer 2",
        ("unwrapped",),
        ("a", "c"),
    ),
    Odd(
        "pandas-columns.json",
        b'{"question": {"0": "a", "1": "b"}, "answer": {"0": "c", "1": "d"}}',
        "usable jsonl question_answer 2",
        ("unwrapped",),
    ),
    Odd(
        "pandas-split.json",
        b'{"columns": ["question", "answer"], "index": [0, 1, 2], "data": [["a", "b"], ["c", "d"], ["e", "f"]]}',
        "usable jsonl question_answer 3",
        ("unwrapped",),
        ("a", "b"),
    ),
    Odd(
        "pandas-table.json",
        b'{"schema": {"fields": [{"name": "index", "type": "integer"}], "pandas_version": "1.4.0"}, "data": [{"index": 0, "question": "a", "answer": "b"}]}',
        "usable jsonl question_answer 1",
        ("unwrapped", "columns_unread"),
        ("a", "b"),
    ),
    Odd(
        "under-data.json",
        b'{"version": "v2", "data": [{"question": "a", "answer": "b"}]}',
        "usable jsonl question_answer 1",
        ("unwrapped",),
    ),
    Odd(
        "viewer.json",
        b'{"features": [{"feature_idx": 0, "name": "question"}], "rows": [{"row_idx": 0, "row": {"question": "a", "answer": "b"}, "truncated_cells": []}]}',
        "usable jsonl question_answer 1",
        ("unwrapped",),
        ("a", "b"),
    ),
    Odd("empty-array.json", b"[]", "refused dataset_invalid.no_rows"),
    Odd("null.json", b"null", "refused dataset_invalid.no_usable_rows"),
    Odd("numbers.json", b"[1, 2, 3]", "refused dataset_invalid.no_usable_rows"),
    Odd("settings.json", b'{"model_type": "llama", "hidden_size": 16}', "refused dataset_invalid.no_shape"),
]

SHAPES = [
    Odd(
        "chat.jsonl",
        lines({"messages": turns("Hi", "Hello", "Again", "Yes")}),
        "usable jsonl messages 1",
        first=("Hi", "Hello", "Again", "Yes"),
    ),
    Odd(
        "system.jsonl",
        lines({"messages": [{"role": "system", "content": "Be kind."}, *turns("Hi", "Hello")]}),
        "usable jsonl messages 1",
        first=("Be kind.", "Hi", "Hello"),
    ),
    Odd(
        "parts.jsonl",
        lines(
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                    {"role": "assistant", "content": "Hello"},
                ]
            }
        ),
        "usable jsonl messages 1",
        first=("Hi", "Hello"),
    ),
    Odd(
        "picture-parts.jsonl",
        lines(
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}}]},
                    {"role": "assistant", "content": "A cat"},
                ]
            }
        ),
        "refused dataset_invalid.no_usable_rows",
    ),
    Odd(
        "tools.jsonl",
        lines(
            {
                "messages": [
                    {"role": "user", "content": "Weather?"},
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [
                            {
                                "id": "1",
                                "type": "function",
                                "function": {"name": "weather", "arguments": '{"at": 12345678901234567890123}'},
                            }
                        ],
                    },
                    {"role": "tool", "tool_call_id": "1", "content": "sunny"},
                    {"role": "assistant", "content": "It is sunny."},
                ],
                "tools": [{"type": "function", "function": {"name": "weather"}}],
            }
        ),
        "usable jsonl messages 1",
        ("tools_unread",),
        (
            "Weather?",
            '<tool_call>\n{"name": "weather", "arguments": {"at": 12345678901234567890123}}\n</tool_call>',
            "sunny",
            "It is sunny.",
        ),
    ),
    Odd(
        "sharegpt.json",
        json.dumps([{"id": "x", "conversations": turns("Hi", "Hello", roles=("human", "gpt"), keys=("from", "value"))}]).encode(),
        "usable json sharegpt 1",
        ("columns_unread",),
        first=("Hi", "Hello"),
    ),
    Odd(
        "vicuna.json",
        json.dumps([{"conversations": turns("Hi", "Hello", roles=("user", "assistant"), keys=("from", "value"))}]).encode(),
        "usable json sharegpt 1",
        first=("Hi", "Hello"),
    ),
    Odd(
        "paired-turns.jsonl",
        lines({"conversation": [{"human": "Hi", "assistant": "Hello"}]}),
        "usable jsonl sharegpt 1",
        first=("Hi", "Hello"),
    ),
    Odd(
        "history.jsonl",
        lines({"query": "And you?", "response": "Fine.", "history": [["Hi", "Hello"]]}),
        "usable jsonl prompt_completion 1",
        first=("Hi", "Hello", "And you?", "Fine."),
    ),
    Odd(
        "dolly.jsonl",
        lines({"instruction": "Sum up.", "context": "A long text.", "response": "Short.", "category": "summary"}),
        "usable jsonl alpaca 1",
        ("columns_unread",),
        first=("Sum up.\n\nA long text.", "Short."),
    ),
    Odd(
        "question-in-input.json",
        json.dumps([{"instruction": "", "input": "Why?", "output": "So."}]).encode(),
        "usable json alpaca 1",
        first=("Why?", "So."),
    ),
    Odd(
        "pairs.jsonl",
        lines({"prompt": "Q", "chosen": "good", "rejected": "bad"}),
        "usable jsonl preference 1",
        first=("Q", "good"),
    ),
    Odd(
        "openai-pairs.jsonl",
        lines(
            {
                "input": {"messages": turns("Q")},
                "preferred_output": [{"role": "assistant", "content": "good"}],
                "non_preferred_output": [{"role": "assistant", "content": "bad"}],
            }
        ),
        "usable jsonl preference 1",
        first=("Q", "good"),
    ),
    Odd(
        "implicit-pairs.jsonl",
        lines({"chosen": turns("Q", "good"), "rejected": turns("Q", "bad")}),
        "usable jsonl preference 1",
        first=("Q", "good"),
    ),
    Odd(
        "transcripts.jsonl",
        lines(
            {
                "chosen": "\n\nHuman: Q\n\nAssistant: A\n\nHuman: Why?\n\nAssistant: good",
                "rejected": "\n\nHuman: Q\n\nAssistant: A\n\nHuman: Why?\n\nAssistant: bad",
            }
        ),
        "usable jsonl preference 1",
        first=("Q", "A", "Why?", "good"),
    ),
    Odd(
        "judged.jsonl",
        lines({"prompt": "Q", "completion": "A", "label": True}, {"prompt": "Q", "completion": "B", "label": False}),
        "usable jsonl unpaired 2",
        first=("Q", "A"),
    ),
    Odd("judged-chat.jsonl", lines({"messages": turns("Q", "A"), "label": False}), "usable jsonl unpaired 1", first=("Q", "A")),
    Odd(
        "trl-chat.jsonl",
        lines({"prompt": turns("Q"), "completion": [{"role": "assistant", "content": "A"}]}),
        "usable jsonl prompt_completion 1",
        first=("Q", "A"),
    ),
    Odd(
        "seeds.jsonl",
        lines({"instruction": "Sort.", "instances": [{"input": "b a", "output": "a b"}, {"input": "", "output": "-"}]}),
        "usable jsonl instances 2",
        first=("Sort.\n\nb a", "a b"),
    ),
    Odd("prompts.jsonl", lines({"prompt": "Write a poem."}, {"prompt": "Write a song."}), "refused dataset_invalid.no_answers"),
    Odd("questions-to-nobody.jsonl", lines({"messages": turns("Hi")}), "refused dataset_invalid.no_usable_rows"),
    Odd(
        "tree.jsonl",
        lines(
            *(
                {
                    "message_id": f"{n}",
                    "parent_id": f"{n - 1}",
                    "role": ["prompter", "assistant"][n % 2],
                    "text": "A message of some length, out of a tree of messages.",
                    "lang": "en",
                }
                for n in range(4)
            )
        ),
        "needs_mapping jsonl text 4",
        ("columns_unread",),
    ),
    Odd(
        "french-alpaca.json",
        json.dumps([{"consigne": "Résume.", "entrée": "Un texte.", "sortie": "Bref."}], ensure_ascii=False).encode(),
        "usable json alpaca 1",
        first=("Résume.\n\nUn texte.", "Bref."),
    ),
    Odd(
        "unknown.csv",
        b"Betreff,Sendung\nWo ist mein Paket?,Es ist noch unterwegs.\nWann kommt es an?,Es kommt morgen an.\n",
        "needs_mapping csv question_answer 2",
    ),
]

OTHERS = [
    Odd("rows.jsonl.gz", gzip.compress(lines(PAIR), mtime=0), "usable jsonl question_answer 1", first=USUAL),
    Odd("rows.csv.bz2", bz2.compress(FR.encode("cp1252")), "usable csv question_answer 2", first=FR_FIRST),
    Odd(
        "folder.zip",
        zipped(donnees_in_lignes__csv=FR.encode(), **{"__MACOSX/x": b"x"}),
        "usable csv question_answer 2",
        first=FR_FIRST,
    ),
    Odd("two.zip", zipped(a__csv=QA.encode(), b__csv=QA.encode()), "refused unsupported.zip_members"),
    Odd("nested.zip", zipped(inner__zip=zipped(a__csv=QA.encode())), "refused unsupported.compressed"),
    Odd("cut.jsonl.gz", gzip.compress(lines(PAIR) * 50, mtime=0)[:-12], "refused dataset_invalid.damaged_archive"),
    Odd("paper.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", "refused unsupported.document"),
    Odd("letter.docx", zipped(word_in_document__xml=b"<x/>"), "refused unsupported.document"),
    Odd("photo.csv", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "refused unsupported.binary"),
    Odd("base.sqlite", b"SQLite format 3\x00" + bytes(84), "refused unsupported.binary"),
    Odd(
        "page.csv",
        b"<!DOCTYPE html>\n<html><head><title>rows.csv</title></head><body>Sign in, please.</body></html>\n",
        "refused unsupported.web_page",
    ),
    Odd("feed.xml", b'<?xml version="1.0"?>\n<rows><row><q>a</q></row></rows>\n', "refused unsupported.markup"),
    Odd(
        "rows.yaml",
        b"- question: Where is it?\n  answer: Over there.\n- question: When is it?\n  answer: Tomorrow.\n",
        "refused unsupported.markup",
    ),
    Odd(
        "pointer.jsonl",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12345\n",
        "refused unsupported.pointer",
    ),
    Odd(
        "story.txt",
        "Il était une fois, à Mâcon, une fée.\n\nElle s’appelait Élise.\n".encode("cp1252"),
        "usable text text 2",
        first=("Il était une fois, à Mâcon, une fée.",),
    ),
    Odd("codes.txt", b"AB\nCD\nEF\nGH\n", "needs_mapping text text 4"),
]

ALL = [*CSV, *JSON, *SHAPES, *OTHERS]
