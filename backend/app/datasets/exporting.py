"""The usable rows of a data set as JSON Lines, in the shape that another tool expects.

A shape that cannot hold every row whole is refused: what is exported and imported again is the same rows.
"""

from collections.abc import Iterator
from typing import Literal, get_args

import orjson

from app.contracts.dataset import Mapping, PlainExample, PlainMessage
from app.core.errors import Invalid
from app.datasets.examples import make_examples
from app.datasets.rows import RawRow
from app.datasets.versions import list_canonical, read_heldout
from app.storage.dataset_dir import DatasetDir

ExportShape = Literal["messages", "sharegpt", "alpaca", "prompt_completion", "question_answer", "text", "preference", "unpaired"]

_MAPPINGS: dict[ExportShape, Mapping] = {
    "messages": Mapping(shape="messages", messages="messages"),
    "sharegpt": Mapping(shape="sharegpt", messages="conversations"),
    "alpaca": Mapping(
        shape="alpaca", instruction="instruction", input="input", output="output", system="system", history="history"
    ),
    "prompt_completion": Mapping(
        shape="prompt_completion", instruction="prompt", output="completion", system="system", history="history"
    ),
    "question_answer": Mapping(
        shape="question_answer", instruction="question", output="answer", system="system", history="history"
    ),
    "text": Mapping(shape="text", text="text"),
    "preference": Mapping(shape="preference", output="chosen", rejected="rejected"),
    "unpaired": Mapping(shape="unpaired", messages="messages", label="label"),
}
"""How an exported file is read; what import detects by itself."""
_EMPTY: dict[str, object] = {"system": "", "history": []}
"""Columns that only some rows need, and what the others have there."""
_SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt", "tool": "tool"}


def export_lines(folder: DatasetDir, shape: ExportShape) -> Iterator[bytes]:
    """Yield a line of JSON for every usable row. Raise Invalid (`shape_loses`) at once where the shape cannot hold a row."""
    empty: dict[str, object] = {}
    for example in list_canonical(folder):
        if record := make_record(example, shape):
            empty |= {name: value for name, value in _EMPTY.items() if name in record}
        if not _survives(example, shape):
            fitting = [name for name in get_args(ExportShape) if _survives(example, name)]
            raise Invalid("shape_loses", row=example["row"], shape=shape, fitting=", ".join(fitting) or "-")
    return _lines(folder, shape, empty)


def _lines(folder: DatasetDir, shape: ExportShape, empty: dict[str, object]) -> Iterator[bytes]:
    """Write every row; all have the columns that one has (`empty`: with what), so that readers of the first rows know them."""
    heldout = read_heldout(folder)
    splits = any(heldout)
    for example, held in zip(list_canonical(folder), heldout, strict=True):
        record = make_record(example, shape)
        assert record is not None, "export_lines has tried every row"
        record = {**empty, **record}
        if splits:
            record["split"] = "test" if held else "train"
        yield orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


def _survives(example: PlainExample, shape: ExportShape) -> bool:
    """Say whether a row that is written in a shape and read again is the same row."""
    record = make_record(example, shape)
    if record is None:
        return False
    read, _ = make_examples(RawRow(example["row"], record), _MAPPINGS[shape])
    return read == [example]


def make_record(example: PlainExample, shape: ExportShape) -> dict[str, object] | None:  # noqa: PLR0911 - shape after shape
    """Return the record of a row in a shape, or None where the shape has no place for it."""
    messages, rejected, desirable = example.get("messages"), example.get("rejected"), example.get("desirable")
    if shape == "text" or messages is None:
        return {"text": example["text"]} if shape == "text" and "text" in example else None
    if (rejected is not None) != (shape == "preference") or (desirable is not None) != (shape == "unpaired"):
        return None
    if shape == "preference":
        return {"chosen": messages, "rejected": rejected}
    if shape == "unpaired":
        return {"messages": messages, "label": desirable}
    if shape == "messages":
        return {"messages": messages}
    if shape == "sharegpt":
        return {"conversations": [_shared(message) for message in messages]}
    return _flat(messages, shape)


def _shared(message: PlainMessage) -> dict[str, object]:
    weight = {"weight": message["weight"]} if "weight" in message else {}
    return {"from": _SPEAKERS[message["role"]], "value": message["content"], **weight}


def _flat(messages: list[PlainMessage], shape: ExportShape) -> dict[str, object] | None:
    """Question and answer in columns; a system text, and earlier turns as pairs."""
    system = ""
    turns = messages
    if turns and turns[0]["role"] == "system":
        system, turns = turns[0]["content"], turns[1:]
    roles = [turn["role"] for turn in turns]
    if not turns or len(turns) % 2 or roles != ["user", "assistant"] * (len(turns) // 2):
        return None
    if any("weight" in turn for turn in messages):
        return None
    pairs = [[turns[at]["content"], turns[at + 1]["content"]] for at in range(0, len(turns), 2)]
    question, answer = pairs.pop()
    mapping = _MAPPINGS[shape]
    record: dict[str, object] = {"system": system} if system else {}
    record[mapping.instruction or ""] = question
    if mapping.input:
        record[mapping.input] = ""
    record[mapping.output or ""] = answer
    if pairs:
        record["history"] = pairs
    return record
