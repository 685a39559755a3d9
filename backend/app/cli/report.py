"""The comparison of a report as text."""

from typing import TYPE_CHECKING

from app.cli.terminal import Terminal

if TYPE_CHECKING:
    from app.api.schemas.reports import ReportRead


def print_comparison(terminal: Terminal, report: "ReportRead") -> None:
    """Print the figures of base and tuned and what they mean; nothing for a report without them."""
    if report.comparison is None or terminal.as_json:
        return
    from rich.markup import escape
    from rich.table import Table

    from app.api.report_page import list_figures
    from app.core.messages import localise

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("measure", "rows", "base", "prompted", "tuned", "interval"):
        name = localise(f"report_page.{heading}", terminal.language)[0]
        table.add_column(name, justify="left" if heading == "measure" else "right")
    for line in list_figures([*report.comparison.measures, *report.comparison.knowledge], terminal.language):
        table.add_row(*line)
    terminal.console.print(table)
    terminal.paragraph(escape(report.comparison.summary))
    for remark in report.comparison.remarks:
        terminal.paragraph(escape(remark.message))
