"""`affinage models`: the catalogue, with what each model means on this machine."""

from typing import TYPE_CHECKING, Literal

import typer

from app.cli.flags import JsonFlag
from app.cli.terminal import Terminal

if TYPE_CHECKING:
    from app.services.planning_service import AvailableModel

FIT_STYLES = {"fits": "green", "tight": "yellow", "does_not_fit": "red"}
WIDE_COLUMNS = 110
"""From this width on, the display name stands beside the id."""
WEIGHT_STYLES = {"ready": "green", "downloadable": "default", "unreachable": "dim"}


def models(context: typer.Context, _json: JsonFlag = False) -> None:
    """List the models, their memory, and which are ready to train."""
    terminal: Terminal = context.obj
    from dataclasses import asdict

    from app.api.schemas.models import ModelList
    from app.core.settings import Settings
    from app.services import planning_service
    from app.services.studio import open_studio

    found = planning_service.available(open_studio(Settings()), terminal.language)
    if terminal.as_json:
        terminal.document(ModelList.model_validate({"models": [asdict(entry) for entry in found]}))
    else:
        print_catalogue(terminal, found)


def print_catalogue(terminal: Terminal, entries: "list[AvailableModel]") -> None:
    """Print one line per model; the one that would be preselected is marked."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    wide = terminal.console.width >= WIDE_COLUMNS
    for heading in ("model", "memory", "quality", "speed", "weights", "fit"):
        justify: Literal["left", "right"] = "right" if heading == "memory" else "left"
        table.add_column(terminal.say(f"column_{heading}"), justify=justify, no_wrap=True)
    for entry in entries:
        mark = "[bold cyan]▸[/] " if entry.preselected else "  "
        table.add_row(
            f"{mark}{entry.id}" + (f"  [dim]{entry.name}[/]" if wide else ""),
            f"{entry.vram_required_gb:.1f} GB",
            stars(entry.quality_rating),
            stars(entry.speed_rating),
            f"[{WEIGHT_STYLES[entry.weights]}]{terminal.say('weights_' + entry.weights)}[/]",
            f"[{FIT_STYLES[entry.fit]}]{terminal.say('fit_' + entry.fit)}[/]",
        )
    terminal.console.print(table)
    chosen = next((entry for entry in entries if entry.preselected), None)
    if chosen is not None:
        reason = f": {chosen.preselected_reason}" if chosen.preselected_reason else ""
        terminal.console.print(f"\n[cyan]▸[/] {chosen.name}{reason}", soft_wrap=True)


def stars(count: int) -> str:
    """Return a rating of one to five as stars."""
    return f"[yellow]{'★' * count}[/]"
