"""Rows as the trainer reads them, and what import found out about a file."""

from typing import Any, Literal, NotRequired, TypedDict

from app.contracts.frozen import Frozen

ReadFormat = Literal["csv", "json", "jsonl", "text"]
"""What the readers read."""
FileFormat = Literal["csv", "json", "jsonl", "text", "xlsx", "xls", "ods", "parquet", "arrow"]
"""What a person may give; the last five are decoded into one of ReadFormat."""
Container = Literal["gzip", "bzip2", "xz", "zip"]
Shape = Literal[
    "alpaca",
    "prompt_completion",
    "question_answer",
    "messages",
    "sharegpt",
    "text",
    "preference",
    "unpaired",
    "classification",
    "instances",
]
Role = Literal["system", "user", "assistant", "tool"]
Fallback = Literal["none", "last_turn", "constructed"]
"""How a conversation is written where a chat template rewrites what it wrote before (datasets/render.py)."""


class Message(Frozen):
    """One turn of a conversation."""

    role: Role
    content: str
    weight: Literal[0, 1] | None = None
    """0: this answer is read and not trained (OpenAI's `weight`); None and 1: it is trained."""


class Example(Frozen):
    """One line of `rows.jsonl`: a conversation, or a plain text. Exactly one of `messages` and `text` is set.

    In preference data `messages` ends with the answer that is preferred, or with one that `desirable` judges.
    """

    row: int
    """Number of the row in the file that was imported, from 1 (the header does not count)."""
    messages: list[Message] | None = None
    text: str | None = None
    rejected: list[Message] | None = None
    """The same conversation with the answer that is not preferred."""
    desirable: bool | None = None
    """Whether the answer is a good one, where the data say so."""


class PlainMessage(TypedDict):
    """A Message as a dictionary."""

    role: Role
    content: str
    weight: NotRequired[Literal[0, 1]]


class PlainExample(TypedDict):
    """An Example as a dictionary with its fields in the same order: made and written several times as fast."""

    row: int
    messages: NotRequired[list[PlainMessage]]
    text: NotRequired[str]
    rejected: NotRequired[list[PlainMessage]]
    desirable: NotRequired[bool]


class Problem(Frozen):
    """Something wrong in one place of the file. `key` is a message key; `row` counts from 1; 0 means the whole file."""

    row: int
    column: str | None
    key: str
    params: dict[str, Any] = {}


class Mapping(Frozen):
    """Which column plays which part. Names of columns of the file; None = unused."""

    shape: Shape
    instruction: str | None = None
    """Prompt, question or instruction column."""
    input: str | None = None
    """Extra context, appended to the instruction."""
    output: str | None = None
    """Answer, completion or response column; in pairs the preferred one."""
    rejected: str | None = None
    """Column of the answer that is not preferred."""
    label: str | None = None
    """Column that says whether an answer is good, or names the class of a text."""
    system: str | None = None
    history: str | None = None
    """Column that holds earlier turns, as pairs [[question, answer], ...] or as a list of turns."""
    messages: str | None = None
    """Column that holds a list of turns (chat or sharegpt)."""
    text: str | None = None
    instances: str | None = None
    """Column that holds a list of objects with `input` and `output`: one example each."""
    split: str | None = None
    """Column that says to which part (train, test, ...) a row belongs."""
    verdict: str | None = None
    """Column in which an annotator accepted, rejected or ignored the row (Prodigy); only accepted rows are used."""


class CsvDialect(Frozen):
    """How the records of a CSV file are written."""

    delimiter: str = ","
    """Empty: every record is one cell."""
    quote: str | None = '"'
    """None: quotation marks are ordinary letters."""
    backslash: bool = False
    """Whether a backslash takes the meaning from the quotation mark, delimiter or backslash behind it."""
    spaced: bool = False
    """Whether spaces behind a delimiter belong to no cell."""
    skipped: int = 0
    """Records above the header (titles, comments)."""
    header: bool = True
    """Whether the first record names the columns."""


class Change(Frozen):
    """What one fix or edit did to the version before."""

    code: str
    """As the finding that it mended, or `bad_rows`, `unread_rows`, `edited_rows`, `added_rows`, `removed_rows`, `mapping`."""
    rows: int


class DatasetInfo(Frozen):
    """`dataset.json` in a data set's folder."""

    dataset_id: str
    name: str
    created_at: str
    format: FileFormat
    encoding: str
    delimiter: str | None
    columns: list[str]
    mapping: Mapping
    confidence: float = 1.0
    """How sure the detection of the mapping is, from 0 to 1; 1 for a mapping given by hand."""
    confirmed: bool = True
    """False: the mapping is only proposed, and nothing may be trained under it."""
    container: Container | None = None
    """What the file was packed in."""
    decoded: ReadFormat | None = None
    """How `decoded` in the data set's folder is read, where the given file cannot be read itself."""
    dialect: CsvDialect | None = None
    remarks: list[Problem] = []
    """What was repaired or passed over without losing a row of data (title lines, repeated headers, ...)."""
    rows: int
    """Rows that can be used."""
    rows_in_file: int
    distinct_rows: int
    skipped_rows: int
    problems: list[Problem]
    """At most 1,000; `problem_count` is the true number."""
    problem_count: int
    train_rows: int
    heldout_rows: int
    """0 when there are fewer than 50 distinct rows."""
    content_hash: str
    """SHA-256 of `rows.jsonl`, hexadecimal."""
    source_bytes: int
    characters: int
    """Characters over all turns, a token estimate before any tokenizer is at hand."""
    row_characters: list[int]
    """Quantiles of characters per row at 0, 5, ..., 100 % (21 numbers)."""
    version: int = 1
    parent: str | None = None
    """Id of the data set that this version was made from."""
    origin: str | None = None
    """Id of the first version; None for the first."""
    changes: list[Change] = []
    """What makes this version differ from its parent."""
