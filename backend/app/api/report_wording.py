"""Reports as the API answers them, with sentences in the reader's language."""

from app.api.schemas.plans import NoticeRead
from app.api.schemas.reports import ComparisonRead, MeasuredRead, ReportRead
from app.api.wording import decimal, notice_read
from app.contracts.comparison import Comparison, Measured
from app.contracts.plan import Notice
from app.contracts.report import Report
from app.core.messages import Language, localise


def report_read(report: Report, comparison: Comparison | None, language: Language) -> ReportRead:
    """Return before and after, with a sentence."""
    improvement = None
    if report.loss_before is None or report.loss_after is None:
        losses = {"first": decimal(report.train_loss_first, language), "last": decimal(report.train_loss_last, language)}
        summary = localise("note.report_without_heldout", language, **losses)[0]
    else:
        improvement = 1 - report.loss_after / report.loss_before
        percent = round(improvement * 100)
        key = "note.report_better" if percent > 0 else "note.report_worse" if percent < 0 else "note.report_same"
        summary = localise(
            key,
            language,
            before=decimal(report.loss_before, language),
            after=decimal(report.loss_after, language),
            percent=abs(percent),
            rows=report.heldout_rows,
        )[0]
    shown = None if comparison is None else comparison_read(comparison, language)
    return ReportRead(**report.model_dump(), summary=summary, improvement=improvement, comparison=shown)


def comparison_read(comparison: Comparison, language: Language) -> ComparisonRead:
    """Return the comparison with what it means in words."""
    loss = comparison.measures[0]
    summary = localise(
        f"verdict.{comparison.verdict}",
        language,
        rows=loss.rows,
        base=decimal(loss.base, language),
        tuned=decimal(loss.tuned, language),
        low=decimal(loss.low, language),
        high=decimal(loss.high, language),
    )[0]
    return ComparisonRead(
        **comparison.model_dump(exclude={"schema_version", "measures", "knowledge", "remarks"}),
        summary=summary,
        measures=[_measured_read(found, language) for found in comparison.measures],
        knowledge=[_measured_read(found, language, general=True) for found in comparison.knowledge],
        remarks=[remark_read(remark, language) for remark in comparison.remarks],
    )


def remark_read(remark: Notice, language: Language) -> NoticeRead:
    """Return a remark in words. A loss that rose did not fall "by -3 % only", and a low learning rate may not be the cause."""
    if remark.key == "no_effect.nothing_learned" and remark.params["percent"] < 0:
        remark = Notice(key="no_effect.training_loss_rose", params={**remark.params, "percent": -remark.params["percent"]})
    return notice_read(remark.key, remark.params, language)


def _measured_read(found: Measured, language: Language, *, general: bool = False) -> MeasuredRead:
    name = "general_loss" if general and found.name == "loss" else found.name
    label = localise(f"measure.{name}", language)[0]
    return MeasuredRead(**found.model_dump(), label=label, share=found.name != "loss", change=found.change, verdict=found.verdict)
