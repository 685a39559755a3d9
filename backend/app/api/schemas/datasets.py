"""What the data set routes take and answer."""

from typing import Literal

from pydantic import BaseModel

from app.api.schemas.errors import ErrorContent
from app.contracts.dataset import Container, Fallback, FileFormat, Mapping, Message, Shape
from app.contracts.options import LongRows
from app.datasets.token_checks import Check, Status


class ProblemRead(BaseModel):
    """Something wrong in one place; row counts from 1, 0 means the whole file."""

    row: int
    column: str | None
    code: str
    message: str
    hint: str


class Splits(BaseModel):
    """Rows per part; heldout is 0 below 50 distinct rows."""

    train: int
    heldout: int


class DatasetRead(BaseModel):
    """An imported data set."""

    dataset_id: str
    name: str
    created_at: str
    format: FileFormat
    encoding: str
    delimiter: str | None
    shape: Shape
    columns: list[str]
    mapping: Mapping
    confidence: float
    """How sure the detection of the mapping is, from 0 to 1."""
    confirmed: bool
    """False: the mapping is only proposed; `PUT .../mapping` confirms or changes it, and nothing starts before."""
    container: Container | None
    """What the file was packed in."""
    rows: int
    rows_in_file: int
    distinct_rows: int
    skipped_rows: int
    problems: list[ProblemRead]
    problem_count: int
    remarks: list[ProblemRead]
    """What was repaired or passed over without losing a row of data (title lines, ...)."""
    splits: Splits
    notices: list[str]
    """Sentences about the whole data set (no held-out rows, ...)."""
    content_hash: str
    source_bytes: int


class DatasetList(BaseModel):
    """Newest first."""

    datasets: list[DatasetRead]


class RowRead(BaseModel):
    """One row as imported and as a training example."""

    row: int
    values: dict[str, str]
    messages: list[Message] | None
    text: str | None
    rejected: list[Message] | None = None
    """The same conversation with the answer that is not preferred."""
    desirable: bool | None = None
    """Whether the answer is a good one, where the file says so."""
    problems: list[ProblemRead]


class RowPage(BaseModel):
    """A page of rows."""

    rows: list[RowRead]
    total: int
    offset: int


class TokenRead(BaseModel):
    """One token of a row."""

    id: int
    text: str
    trained: bool
    """Whether the loss counts it."""
    special: bool
    """Whether it is a control token: no text, but a mark in the sequence."""


class TokensRead(BaseModel):
    """One row as the model reads it."""

    row: int
    template: str
    """`chat`: the model's own template; `plain`: the stated template for models that have none."""
    tokens: list[TokenRead]
    full_length: int
    """Tokens before the cut; larger than the number of `tokens` when the row is cut."""
    fallback: Fallback
    """`last_turn`: the template rewrites earlier turns, so only the last answer is trained; `constructed`: the answer as
    written in the data, closed by the template's end token."""


class LengthBinRead(BaseModel):
    """Rows with `first` to `last` tokens, both counted in."""

    first: int
    last: int | None
    """Null: no upper end."""
    rows: int


class TokenCheckRead(BaseModel):
    """One thing that was checked before a start."""

    check: Check
    status: Status
    """`failed` stops a start."""
    share: float
    """Share of the answers, rows or tokens for which all is well, 0..1."""
    message: str
    hint: str
    rows: list[int]
    """Some of the rows at fault."""


class TokenReportRead(BaseModel):
    """All rows as tokens of one model: how long they are, what is cut, and whether they teach what they should."""

    model: str
    rows: int
    rows_counted: int
    """Every n-th row of a large data set is tokenised, all rows of others."""
    median_length: int
    longest: int
    tokens: int
    """Of the rows that were counted."""
    trained_share: float
    """Share of the tokens that the loss counts, 0..1."""
    max_length: int
    long_rows: LongRows
    long_rows_reason: str | None
    """Why it is not the usual value."""
    histogram: list[LengthBinRead]
    cut_rows_share: float
    """Share of the rows that are longer than `max_length`, 0..1."""
    cut_tokens_share: float
    """Share of all tokens that are lost by it, 0..1; 0 when rows are divided."""
    checks: list[TokenCheckRead]
    startable: bool
    """Whether no check failed."""


class CheckRead(BaseModel):
    """What `affinage data check` found out; after a refusal only `error` says something."""

    usable: bool
    status: Literal["usable", "needs_mapping", "refused"]
    format: FileFormat | None = None
    container: Container | None = None
    encoding: str | None = None
    delimiter: str | None = None
    shape: Shape | None = None
    confidence: float = 0.0
    rows: int = 0
    rows_in_file: int = 0
    skipped_rows: int = 0
    columns: list[str] = []
    mapping: Mapping | None = None
    problems: list[ProblemRead] = []
    problem_count: int = 0
    remarks: list[ProblemRead] = []
    duplicates: int = 0
    """Rows that repeat an earlier one exactly."""
    splits: Splits | None = None
    error: ErrorContent | None = None
