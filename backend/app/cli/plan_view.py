"""A plan as people read it: memory against what is there, time, and every value with its origin."""

from typing import TYPE_CHECKING

from rich.markup import escape

from app.cli.terminal import Terminal
from app.core.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from rich.console import RenderableType

    from app.api.schemas.plans import AlternativeRead, PlanRead, ResolvedRead

VERDICT_STYLES = {"fits": "green", "tight": "yellow", "does_not_fit": "red"}
BAR_CELLS = 32
PART_GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "weights": ("blue", ("weights",)),
    "adapter": ("magenta", ("adapter", "gradients", "optimizer")),
    "activations": ("cyan", ("activations", "logits", "workspace")),
    "context": ("bright_black", ("context",)),
}
"""Group -> colour, parts of the peak."""


def print_plan(terminal: Terminal, plan: "PlanRead") -> None:
    """Print the plan; values that nobody chose and that are the same everywhere stay out."""
    style = VERDICT_STYLES[plan.verdict]
    terminal.print(
        f"[bold]{escape(plan.model_id)}[/]  [dim]{escape(plan.device_name)} · {terminal.say('objective_' + plan.objective)}[/]"
    )
    memory = terminal.say("plan_memory", peak=format_bytes(plan.peak_bytes), available=format_bytes(plan.available_bytes))
    terminal.print(f"  {memory_bar(plan)}  {memory}  [{style}]{terminal.say('fit_' + plan.verdict)}[/]")
    terminal.print(f"  [dim]{parts_line(terminal, plan)}[/]")
    terminal.paragraph(f"[dim]{bound_line(terminal, plan)}[/]", indent=2)
    terminal.paragraph(
        terminal.say(
            "plan_time",
            likely=format_seconds(plan.seconds_p50),
            at_most=format_seconds(plan.seconds_p90),
            steps=plan.steps,
            rows=plan.train_rows,
            heldout=plan.heldout_rows,
        )
        + f" [dim]({terminal.say('time_' + plan.time_method)})[/]",
        indent=2,
    )
    if plan.comparison_seconds:
        terminal.paragraph(
            f"[dim]{terminal.say('plan_comparison', at_most=format_seconds(plan.comparison_seconds))}[/]", indent=2
        )
    terminal.print(values_table(terminal, plan.resolved))
    # The planner's reason for a value often stands among the reasons of the whole plan too.
    reasons = [reason.message for reason in plan.reasons] + [entry.reason for entry in plan.resolved.values() if entry.reason]
    for reason in dict.fromkeys(reasons):
        terminal.paragraph(f"[cyan]i[/] [dim]{escape(reason)}[/]", indent=2)
    for warning in plan.warnings:
        terminal.paragraph(f"[yellow]![/] {escape(warning.message)} [dim]{escape(warning.hint)}[/]", indent=2)
    if plan.alternatives:
        terminal.print(alternatives_table(terminal, plan.alternatives))


def memory_bar(plan: "PlanRead") -> str:
    """Return the peak by purpose as a bar against what is there; one colour a group."""
    whole = max(plan.available_bytes, plan.peak_bytes, 1)
    cells, bar, done = 0, "", 0
    for colour, names in PART_GROUPS.values():
        done += sum(getattr(plan.parts, name) for name in names)
        upto = min(BAR_CELLS, round(done / whole * BAR_CELLS))
        bar += f"[{colour}]{'█' * (upto - cells)}[/]"
        cells = max(cells, upto)
    return bar + f"[dim]{'░' * (BAR_CELLS - cells)}[/]"


def parts_line(terminal: Terminal, plan: "PlanRead") -> str:
    """Return the peak by purpose in words, in the colours of the bar."""
    parts = []
    for name, (colour, names) in PART_GROUPS.items():
        size = sum(getattr(plan.parts, part) for part in names)
        if size:
            parts.append(f"[{colour}]■[/] {terminal.say('part_' + name)} {format_bytes(size)}")
    return "  ".join(parts)


def bound_line(terminal: Terminal, plan: "PlanRead") -> str:
    """Return how sure the memory is, and by which method it was found."""
    bound, upper = plan.bound, format_bytes(plan.peak_bytes_upper)
    method = terminal.say("memory_" + plan.memory_method)
    if bound.confidence is None:
        return f"{terminal.say('bound_rule', upper=upper)} · {method}"
    confidence = f"{100 * bound.confidence:.0f}"
    return f"{terminal.say('bound_measured', upper=upper, confidence=confidence, samples=bound.samples)} · {method}"


def alternatives_table(terminal: Terminal, alternatives: "list[AlternativeRead]") -> "RenderableType":
    """Return what else could be done, and its price."""
    from rich.padding import Padding
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for heading in ("alternative", "memory", "time", "fit"):
        right = heading in {"memory", "time"}
        table.add_column(
            terminal.say(f"column_{heading}"),
            justify="right" if right else "left",
            no_wrap=heading != "alternative",
            overflow="fold",
        )
    shown: set[str] = set()
    for alternative in alternatives:
        changes = ", ".join(f"{name} {format_value(value)}" for name, value in alternative.changes.items())
        if changes in shown:  # the runner-up may be what one knob alone gives
            continue
        shown.add(changes)
        style = VERDICT_STYLES[alternative.verdict]
        table.add_row(
            escape(changes),
            format_bytes(alternative.peak_bytes),
            format_seconds(alternative.seconds_p50),
            f"[{style}]{terminal.say('fit_' + alternative.verdict)}[/]",
        )
    return Padding(table, (1, 0, 0, 2), expand=False)


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
