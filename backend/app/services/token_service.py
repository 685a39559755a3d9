"""The truth about what will be trained: one row as tokens, and what all rows are under one model."""

from typing import NamedTuple

from app.contracts.options import LongRows, Method
from app.contracts.plan import Resolved
from app.core.errors import NotFound
from app.datasets.importing import read_rows
from app.datasets.token_checks import TokenCheck, check_tokens
from app.datasets.token_lengths import LengthBin, count_lengths, share_cut
from app.datasets.tokens import ShownRow, show_tokens, token_counts
from app.services.dataset_service import get_dir
from app.services.finetuning_service import get_model
from app.services.learning_method import settle_method
from app.services.long_rows import JUDGED, make_cut, settle_long_rows
from app.services.resolution import read_options, resolve_values
from app.services.row_lengths import count_every
from app.services.studio import Studio
from app.services.tokenizer_folders import get_tokenizer_folder

WHOLE_ROW = 1 << 17
"""Tokens shown of a row when no `max_length` is given: the largest that an option may have."""


class TokenReport(NamedTuple):
    """What the rows of a data set are as tokens of one model."""

    model_id: str
    rows: int
    lengths: list[int]
    """Of the rows that were counted and that the template can write, rising."""
    counted: int
    """Rows that were looked at: all, or every n-th."""
    trained_tokens: int
    histogram: list[LengthBin]
    max_length: int
    long_rows: Resolved
    cut_rows_share: float
    cut_tokens_share: float
    checks: list[TokenCheck]


def get_tokens(
    studio: Studio,
    dataset_id: str,
    row: int,
    model_id: str,
    *,
    max_length: int | None = None,
    method: Method | None = None,
    rejected: bool = False,
) -> ShownRow:
    """Return one row as token ids and strings; `rejected`: with the answer that is not preferred.

    Raise NotFound; Invalid for a method that cannot learn these rows; ModelUnavailable while the tokenizer is not here.
    """
    folder = get_dir(studio, dataset_id)
    views = read_rows(folder, row - 1, 1)
    example = views[0].example if views else None
    if example is None or (rejected and example.rejected is None):
        raise NotFound("row", row=row, dataset_id=dataset_id)
    if rejected:
        example = example.model_copy(update={"messages": example.rejected})
    values = resolve_values(read_options(method=method), get_model(studio, model_id).entry)
    chosen = settle_method(values, folder.read_info().mapping.shape)["method"].value
    return show_tokens(example, get_tokenizer_folder(studio, model_id), max_length or WHOLE_ROW, judged=chosen in JUDGED)


def get_token_report(
    studio: Studio,
    dataset_id: str,
    model_id: str,
    *,
    max_length: int | None = None,
    long_rows: LongRows | None = None,
    method: Method | None = None,
) -> TokenReport:
    """Return lengths, checks and the cut of a data set under one model; None = the value that a start would take.

    Raise NotFound, Invalid; ModelUnavailable where the tokenizer is not here or does not work.
    """
    folder = get_dir(studio, dataset_id)
    info = folder.read_info()
    model = get_model(studio, model_id)
    options = read_options(max_length=max_length, long_rows=long_rows, method=method)
    values = settle_method(resolve_values(options, model.entry), info.mapping.shape)
    counts = token_counts(folder.rows_file, get_tokenizer_folder(studio, model_id), every=count_every(info))
    values = settle_long_rows(values, counts)
    cut = make_cut(values)
    lengths = sorted(count.length for count in counts if count.length)
    cut_rows, cut_tokens = share_cut(lengths, cut.max_length, cut.long_rows)
    return TokenReport(
        model_id=model.model_id,
        rows=info.rows,
        lengths=lengths,
        counted=len(counts),
        trained_tokens=sum(count.trained for count in counts),
        histogram=count_lengths(lengths, cut.max_length),
        max_length=cut.max_length,
        long_rows=values["long_rows"],
        cut_rows_share=cut_rows,
        cut_tokens_share=cut_tokens,
        checks=check_tokens(counts, cut, classes=values["method"].value == "classification"),
    )
