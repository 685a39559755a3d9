"""What the data set routes take and answer."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.api.schemas.errors import ErrorContent
from app.contracts.analysis import FindingCode, Remedy
from app.contracts.dataset import Container, Fallback, FileFormat, Mapping, Message, Shape
from app.contracts.options import LongRows
from app.datasets.rows import Stage
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


class ChangeRead(BaseModel):
    """What one fix or edit did to the version before."""

    code: str
    rows: int
    message: str


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
    version: int
    """1 for an imported file; a version made from it is one further."""
    parent: str | None
    """Id of the data set that this version was made from."""
    origin: str | None
    """Id of the first version; null for the first."""
    changes: list[ChangeRead]
    """What makes this version differ from its parent."""


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


class ImportRead(BaseModel):
    """How far the import of a file is; ask again until its POST has answered."""

    stage: Stage
    done_bytes: int
    total_bytes: int
    seconds: float
    """Since the stage began."""


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


class FoundRowRead(BaseModel):
    """One row of a finding."""

    row: int
    other: int | None
    """The row that it repeats or contradicts."""
    text: str
    """What was found, shortened."""


class FindingRead(BaseModel):
    """One kind of remark about many rows: no error, and it may spoil a model."""

    code: FindingCode
    count: int
    remedy: Remedy
    """What its fix does: leave the rows out, mask what was found, move the rows to training."""
    message: str
    hint: str
    """What the fix does, in words."""
    rows: list[FoundRowRead]
    """The first of them."""


class AnalysisRead(BaseModel):
    """What a second look at the rows found; ask again while it runs."""

    state: Literal["running", "done", "failed"]
    done_bytes: int
    total_bytes: int
    rows: int
    """Rows that were looked at; 0 before the end, as the fields below."""
    seconds: float
    languages: dict[str, int]
    """Rows by language, as far as one was recognised; the most frequent first."""
    findings: list[FindingRead]


class FixRequest(BaseModel):
    """Findings to mend, by their codes; `bad_rows` leaves out the rows that cannot be used."""

    model_config = ConfigDict(extra="forbid")

    findings: list[Annotated[str, Field(max_length=80)]] = Field(min_length=1, max_length=20)


class RowEdit(BaseModel):
    """New values of one row, by column; columns that are not named keep theirs."""

    model_config = ConfigDict(extra="forbid")

    row: int = Field(ge=1)
    values: dict[str, Any] | None
    """null leaves the row out."""


class EditRequest(BaseModel):
    """Rows to change, to leave out and to add; the answer is a new version."""

    model_config = ConfigDict(extra="forbid")

    edited: list[RowEdit] = Field(default=[], max_length=1000)
    added: list[dict[str, Any]] = Field(default=[], max_length=1000)
