"""Will a training learn what it should? Checks of rows as a model's tokens, before anything is spent.

They answer the failures that leave a loss curve looking healthy: an end of turn that is never learned, a start token
written twice, a template inside a template, hardly a token that is trained.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from app.contracts.dataset import Example
from app.contracts.frozen import Frozen
from app.contracts.options import LongRows
from app.core.errors import DatasetInvalid
from app.datasets.tokens import TokenCount

MINIMUM_SHARE = 0.99
"""Share of the answers, or of the rows, that a check asks for."""
MINIMUM_TRAINED_SHARE = 0.01
"""Share of the tokens that must be trained; a class is a word or two behind a long text, so any share is enough there."""
NAMED_ROWS = 5
"""Rows at fault that are named."""

TEMPLATE_MARKS = re.compile(
    r"<\|im_start\|>\s*(?:system|user|assistant)\b|<start_of_turn>\s*(?:user|model)\b|<\|start_header_id\|>"
    r"|<\|(?:system|user|assistant)\|>|\[INST\].*?\[/INST\]|### Instruction:.*?### Response:",
    re.DOTALL,
)
"""What only a template writes: ChatML, Gemma, Llama 3, Zephyr and Phi, Llama 2 and Mistral, Alpaca."""

Check = Literal["renderable", "end_of_turn", "start_once", "single_template", "trained_share"]
Status = Literal["passed", "warning", "failed"]


class TokenCheck(Frozen):
    """One thing that was checked."""

    check: Check
    status: Status
    """`failed` stops a start."""
    share: float
    """Share of the answers, rows or tokens for which all is well, 0..1."""
    key: str
    """Message key; of a failed check that of the refusal."""
    params: dict[str, Any]
    rows: list[int] = []
    """Some of the rows at fault, by their numbers in the imported file."""


class Cut(Frozen):
    """What happens to long rows."""

    max_length: int
    long_rows: LongRows
    divisible: bool = True
    """False for answers that are judged: they are cut or left out, never divided."""
    chosen: bool = False
    """Whether a person asked for this treatment of long rows; what was chosen for them only warns."""

    def keeps(self, count: TokenCount) -> bool:
        """Return whether the row is trained at all."""
        return count.length > 0 and not (self.long_rows == "drop" and count.length > self.max_length)

    def count_ends(self, count: TokenCount) -> int:
        """Return how many answers of the row have their end trained."""
        if self.long_rows == "split" and self.divisible:
            return len(count.ends)
        return sum(end <= self.max_length for end in count.ends)


def holds_template(example: Example) -> bool:
    """Return whether a turn holds the marks of a chat template. A text row is written as it is, so its marks are its own."""
    turns = [*(example.messages or []), *(example.rejected or [])]
    return any(TEMPLATE_MARKS.search(turn.content) for turn in turns)


def find_ends(ids: Sequence[int], trained: Sequence[bool], stop_ids: frozenset[int]) -> Iterator[int]:
    """Yield the number of tokens up to the end of each trained stretch that is closed by one of `stop_ids`."""
    for place in [place for place, token in enumerate(ids) if token in stop_ids]:
        if trained[place] and (place + 1 == len(ids) or not trained[place + 1]):
            yield place + 1


def check_tokens(counts: Sequence[TokenCount], cut: Cut, *, classes: bool = False) -> list[TokenCheck]:
    """Return every check of rows under one model; `classes`: the answers are names of classes. Nothing for no rows."""
    if not counts:
        return []
    written = [count for count in counts if count.length]
    checks = [_check_renderable(counts)]
    if written:
        checks += [
            _check_ends(written, cut),
            _check_rows("start_once", "start_doubled", written, [count for count in written if count.starts > 1]),
            _check_rows("single_template", "template_doubled", written, [count for count in written if count.marked]),
            _check_trained(written, classes),
        ]
    return checks


def refuse_failed(checks: Sequence[TokenCheck]) -> None:
    """Raise DatasetInvalid for the first failed check, with the rows at fault as details."""
    for check in checks:
        if check.status == "failed":
            code, _, variant = check.key.partition(".")
            details = [{"row": row, "code": code, "key": check.key, "params": check.params} for row in check.rows]
            raise DatasetInvalid(variant, details, **check.params)


def share_without_end(counts: Sequence[TokenCount], max_length: int) -> float:
    """Return the share of the answers that lose their trained end when rows are cut at `max_length`, 0..1."""
    ends = sum(len(count.ends) for count in counts)
    return sum(end > max_length for count in counts for end in count.ends) / ends if ends else 0.0


def _check_renderable(counts: Sequence[TokenCount]) -> TokenCheck:
    refused = [count for count in counts if not count.length]
    share = 1 - len(refused) / len(counts)
    params = {"refused": len(refused), "rows": len(counts)}
    if not refused:
        return TokenCheck(check="renderable", status="passed", share=share, key="renderable.passed", params=params)
    some = share > 0
    key = "renderable.some" if some else "dataset_invalid.none_renderable"
    return TokenCheck(
        check="renderable", status="warning" if some else "failed", share=share, key=key, params=params, rows=_name(refused)
    )


def _check_ends(written: Sequence[TokenCount], cut: Cut) -> TokenCheck:
    """The end of an answer must be in the row, must be trained, and must survive the cut."""
    share = _share_of_ends(written, [len(count.ends) for count in written])
    if share < MINIMUM_SHARE:
        lost = [count for count in written if len(count.ends) < count.answers]
        return _ends_check("failed", "dataset_invalid.ends_untrained", share, lost, cut)
    kept = [count for count in written if cut.keeps(count)]
    share = _share_of_ends(kept, [cut.count_ends(count) for count in kept])
    if share >= MINIMUM_SHARE:
        return _ends_check("passed", "end_of_turn.passed", share, [], cut)
    lost = [count for count in kept if cut.count_ends(count) < count.answers]
    if cut.chosen or not kept:
        return _ends_check("failed", "dataset_invalid.ends_cut" if kept else "dataset_invalid.all_dropped", share, lost, cut)
    return _ends_check("warning", "end_of_turn.cut", share, lost, cut)


def _share_of_ends(counts: Sequence[TokenCount], ends: list[int]) -> float:
    answers = sum(count.answers for count in counts)
    return sum(ends) / answers if answers else 0.0


def _ends_check(status: Status, key: str, share: float, lost: Sequence[TokenCount], cut: Cut) -> TokenCheck:
    params = {"percent": _percent(share), "length": cut.max_length}
    return TokenCheck(check="end_of_turn", status=status, share=share, key=key, params=params, rows=_name(lost))


def _check_rows(check: Check, failure: str, written: Sequence[TokenCount], wrong: Sequence[TokenCount]) -> TokenCheck:
    """A fault that a row has or has not; a few rows that have it only warn."""
    share = 1 - len(wrong) / len(written)
    params = {"wrong": len(wrong), "rows": len(written), "percent": _percent(1 - share)}
    if share < MINIMUM_SHARE:
        status: Status = "failed"
        key = f"dataset_invalid.{failure}"
    else:
        status = "warning" if wrong else "passed"
        key = f"{check}.some" if wrong else f"{check}.passed"
    return TokenCheck(check=check, status=status, share=share, key=key, params=params, rows=_name(wrong))


def _check_trained(written: Sequence[TokenCount], classes: bool) -> TokenCheck:
    share = sum(count.trained for count in written) / sum(count.length for count in written)
    fine = share > 0 if classes else share >= MINIMUM_TRAINED_SHARE
    key = "trained_share.passed" if fine else "dataset_invalid.little_trained"
    untrained = [] if fine else sorted(written, key=lambda count: count.trained / count.length)
    params = {"percent": _percent(share)}
    return TokenCheck(
        check="trained_share", status="passed" if fine else "failed", share=share, key=key, params=params, rows=_name(untrained)
    )


def _percent(share: float) -> float:
    """In percent with one place; 100.0 only where it is all."""
    percent = round(100 * share, 1)
    return 99.9 if percent == 100.0 and share < 1 else percent


def _name(counts: Sequence[TokenCount]) -> list[int]:
    return [count.row for count in counts[:NAMED_ROWS]]
