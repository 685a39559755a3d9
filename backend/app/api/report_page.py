"""The report as one HTML file that needs nothing else: no script, no address of another place, every text escaped."""

import math
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from jinja2 import Environment, Template
from markupsafe import Markup

from app.api.schemas.reports import MeasuredRead, ReportRead
from app.api.wording import decimal
from app.contracts.events import JobEvent
from app.contracts.job import TrainingJob
from app.core.messages import Language, localise
from app.export.card import draw_curve
from app.services.system_service import versions

POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""Content-Security-Policy of the answer: the texts in it are people's and models'."""


def render_report(job: TrainingJob, report: ReportRead, events: Sequence[JobEvent], language: Language) -> str:
    """Return the file."""
    curve = draw_curve(events)
    finished = events[-1].at[:10] if events else ""

    def say(name: str, **params: object) -> str:
        return localise(f"report_page.{name}", language, **params)[0]

    facts = [
        (say("model"), f"{job.model.display_name} ({job.model.model_id})"),
        (say("dataset"), job.dataset.name),
        (say("finished"), finished),
        (
            say("steps"),
            str(report.steps) if report.planned_steps in (None, report.steps) else f"{report.steps} / {report.planned_steps}",
        ),
        *([] if report.best_step is None else [(say("best_step"), str(report.best_step))]),
        (say("learning_rate"), f"{job.optimization.learning_rate:g}"),
        (say("adapter"), f"{job.lora.rank}, {job.lora.alpha}"),
        (say("hash"), job.dataset.content_hash),
        (say("commit"), job.model.commit),
    ]
    compared = report.comparison
    return _template().render(
        language=language,
        job=job,
        report=report,
        say=say,
        facts=facts,
        # draw_curve writes numbers and fixed words only.
        curve=None if curve is None else Markup(curve),  # noqa: S704
        figures=list_figures([*compared.measures, *compared.knowledge], language) if compared else [],
        version=versions()["affinage"],
        date=finished,
    )


def list_figures(measures: Sequence[MeasuredRead], language: Language) -> list[list[str]]:
    """Return a line of texts a measure: name, rows, base, prompted, tuned, interval. The perplexity follows the first, a loss."""
    lines = []
    for found in measures:
        lines.append(_line(found, language))
        if found is measures[0]:
            values = [found.base, found.prompted, found.tuned]
            shown = ["" if value is None else decimal(math.exp(min(value, 700.0)), language) for value in values]
            lines.append([localise("measure.perplexity", language)[0], str(found.rows), *shown, ""])
    return lines


def _line(found: MeasuredRead, language: Language) -> list[str]:
    def show(value: float | None, *, signed: bool = False) -> str:
        if value is None:
            return ""
        sign = "+" if signed and value > 0 else ""
        return f"{sign}{round(100 * value)} %" if found.share else sign + decimal(value, language)

    between = f"{show(found.low, signed=True)} … {show(found.high, signed=True)}"
    return [found.label, str(found.rows), show(found.base), show(found.prompted), show(found.tuned), between]


@cache
def _template() -> Template:
    text = files("app.assets").joinpath("report.html.jinja").read_text("utf-8")
    return Environment(autoescape=True, trim_blocks=True).from_string(text)
