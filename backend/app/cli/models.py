"""`affinage models`: the catalogue, with what each model means on this machine; models of one's own."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from app.cli.flags import JsonFlag
from app.cli.terminal import Terminal

if TYPE_CHECKING:
    from app.services.planning_service import AvailableModel

FIT_STYLES = {"fits": "green", "tight": "yellow", "does_not_fit": "red"}
WIDE_COLUMNS = 110
"""From this width on, the display name stands beside the id."""
WEIGHT_STYLES = {"ready": "green", "downloadable": "default", "unreachable": "dim"}


app = typer.Typer(invoke_without_command=True)


@app.callback()
def models(context: typer.Context, _json: JsonFlag = False) -> None:
    """List the models, their memory, and which are ready to train; `add` and `remove` models of your own."""
    if context.invoked_subcommand is not None:
        return
    terminal: Terminal = context.obj
    from app.api.schemas.models import ModelList
    from app.core.settings import Settings
    from app.services import planning_service
    from app.services.studio import open_studio

    found = planning_service.available(open_studio(Settings()), terminal.language)
    if terminal.as_json:
        terminal.document(ModelList.of(found))
    else:
        print_catalogue(terminal, found)


@app.command("add")
def add(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A hub id such as org/name, or the absolute path of a folder.")],
    _json: JsonFlag = False,
) -> None:
    """Add a model of your own: its values are computed from config.json; no weights are fetched."""
    terminal: Terminal = context.obj
    from app.api.schemas.models import ModelRead
    from app.core.settings import Settings
    from app.services import model_service, planning_service
    from app.services.studio import open_studio

    studio = open_studio(Settings())
    added = planning_service.describe_added(studio, model_service.add_model(studio, model), terminal.language)
    if terminal.as_json:
        terminal.document(ModelRead.model_validate(added, from_attributes=True))
    else:
        print_catalogue(terminal, [added])


@app.command("remove")
def remove(context: typer.Context, model_id: Annotated[str, typer.Argument(help="Its id in `affinage models`.")]) -> None:
    """Take a model that you added off the list; its weights and jobs stay."""
    from app.core.settings import Settings
    from app.services import own_models
    from app.services.studio import open_studio

    own_models.remove_model(open_studio(Settings()), model_id)
    terminal: Terminal = context.obj
    terminal.print(terminal.say("model_removed", model_id=model_id))


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
