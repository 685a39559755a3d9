"""A plan as people read it: memory against what is there, time, and every value with its origin."""

from typing import TYPE_CHECKING

from rich.markup import escape

from app.cli.terminal import Terminal
from app.core.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from rich.console import RenderableType

    from app.api.schemas.plans import PlanRead, ResolvedRead

VERDICT_STYLES = {"fits": "green", "tight": "yellow", "does_not_fit": "red"}
BAR_CELLS = 24


def print_plan(terminal: Terminal, plan: "PlanRead") -> None:
    """Print the plan; values that nobody chose and that are the same everywhere stay out."""
    style = VERDICT_STYLES[plan.verdict]
    terminal.print(f"[bold]{plan.model_id}[/]  [dim]{plan.device_name}[/]")
    share = min(1.0, plan.peak_bytes / max(1, plan.available_bytes))
    bar = f"[{style}]{'█' * max(1, round(share * BAR_CELLS))}[/][dim]{'░' * (BAR_CELLS - max(1, round(share * BAR_CELLS)))}[/]"
    memory = terminal.say("plan_memory", peak=format_bytes(plan.peak_bytes), available=format_bytes(plan.available_bytes))
    terminal.print(f"  {bar}  {memory}  [{style}]{terminal.say('fit_' + plan.verdict)}[/]")
    terminal.print(
        "  "
        + terminal.say(
            "plan_time",
            likely=format_seconds(plan.seconds_p50),
            at_most=format_seconds(plan.seconds_p90),
            steps=plan.steps,
            rows=plan.train_rows,
            heldout=plan.heldout_rows,
        )
    )
    terminal.print(values_table(terminal, plan.resolved))
    # The planner's reason for a value often stands among the reasons of the whole plan too.
    reasons = [reason.message for reason in plan.reasons] + [entry.reason for entry in plan.resolved.values() if entry.reason]
    for reason in dict.fromkeys(reasons):
        terminal.print(f"  [cyan]i[/] [dim]{escape(reason)}[/]")
    for warning in plan.warnings:
        terminal.print(f"  [yellow]![/] {escape(warning.message)} [dim]{escape(warning.hint)}[/]")


def values_table(terminal: Terminal, resolved: "dict[str, ResolvedRead]") -> "RenderableType":
    """Return the values in two columns: name, value, who decided it."""
    from rich.padding import Padding
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 3, 0, 0), pad_edge=False)
    for no_wrap in (True, False, True):
        table.add_column(no_wrap=no_wrap, overflow="fold")
    for name, entry in resolved.items():
        if entry.origin != "default":
            table.add_row(
                f"[dim]{name}[/]", escape(format_value(entry.value)), f"[dim]{terminal.say('origin_' + entry.origin)}[/]"
            )
    return Padding(table, (1, 0, 1, 2), expand=False)


def format_value(value: object) -> str:
    """Return a value as it would be typed."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
