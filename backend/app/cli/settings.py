"""`affinage settings`: every setting, its value and where it comes from."""

import os

import typer

from app.cli.flags import JsonFlag
from app.cli.terminal import Terminal


def settings(context: typer.Context, _json: JsonFlag = False) -> None:
    """Show each setting with its origin: environment, file or default."""
    terminal: Terminal = context.obj
    from app.core.settings import Settings

    loaded = Settings()
    origins = find_origins(loaded.data_dir, set(Settings.model_fields))
    rows = [
        {"name": name, "value": value, "origin": origins.get(name, "default"), "variable": f"AFFINAGE_{name.upper()}"}
        for name, value in loaded.model_dump(mode="json").items()
    ]
    if terminal.as_json:
        terminal.document({"settings": rows})
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("setting", "value", "origin"):
        table.add_column(terminal.say(f"column_{heading}"), overflow="fold")
    for row in rows:
        own = row["origin"] != "default"
        shown = terminal.say("origin_default") if row["origin"] == "default" else row["origin"]
        table.add_row(row["variable"], f"[bold]{row['value']}[/]" if own else str(row["value"]), f"[dim]{shown}[/]")
    terminal.console.print(table)


def find_origins(data_dir: "os.PathLike[str]", names: set[str]) -> dict[str, str]:
    """Return where each setting that is not the default was set: a variable, or the TOML file."""
    import tomllib
    from pathlib import Path

    file = Path(os.environ.get("AFFINAGE_CONFIG") or Path(data_dir) / "affinage.toml")
    from_file = tomllib.loads(file.read_text("utf-8")) if file.is_file() else {}
    variables = {name.upper() for name in os.environ}
    origins = {name: str(file) for name in names if name in from_file}
    return origins | {name: f"AFFINAGE_{name.upper()}" for name in names if f"AFFINAGE_{name.upper()}" in variables}
