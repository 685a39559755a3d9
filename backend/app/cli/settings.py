"""`affinage settings`: every setting, its value and where it comes from."""

import typer

from app.cli.flags import JsonFlag
from app.cli.terminal import Terminal


def settings(context: typer.Context, _json: JsonFlag = False) -> None:
    """Show each setting with its origin: environment, file or default."""
    terminal: Terminal = context.obj
    from app.core.settings import Settings
    from app.services.settings_service import list_settings

    rows = [
        {"name": view.name, "value": view.value, "origin": view.origin, "variable": view.variable}
        for view in list_settings(Settings())
    ]
    if terminal.as_json:
        terminal.document({"settings": rows})
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("setting", "value", "origin"):
        table.add_column(terminal.say(f"column_{heading}"), overflow="fold")
    for row in rows:
        origin, shown = str(row["origin"]), str(row["value"])
        own = origin != "default"
        said = origin if own else terminal.say("origin_default")
        table.add_row(str(row["variable"]), f"[bold]{shown}[/]" if own else shown, f"[dim]{said}[/]")
    terminal.console.print(table)
