"""`affinage recommend`: the models for this machine or a card of a given size, the best first, each with its reason."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from app.cli.flags import JsonFlag
from app.cli.models import FIT_STYLES, WIDE_COLUMNS
from app.cli.terminal import Terminal
from app.core.units import GIB, format_bytes, format_seconds

if TYPE_CHECKING:
    from app.api.schemas.models import RecommendationRead, RecommendedModel

Vram = Annotated[
    float | None,
    typer.Option("--vram", min=0.5, max=4096, help="GB of a graphics card, 2**30 bytes each; automatic = this machine."),
]
Data = Annotated[str | None, typer.Option("--data", help="An id from `affinage data list`, or a file to import.")]
Aim = Annotated[
    Literal["speed", "balanced", "quality"] | None, typer.Option("--objective", help="What counts most; automatic = balanced.")
]
Everything = Annotated[bool, typer.Option("--all", help="Show the models that are not recommended too.")]


def recommend(
    context: typer.Context, vram: Vram = None, data: Data = None, objective: Aim = None, everything: Everything = False,
    _json: JsonFlag = False,
) -> None:  # fmt: skip
    """Rank the models for this machine (or `--vram 6`), your data and what you want most."""
    terminal: Terminal = context.obj
    from app.api.wording import recommendation_read
    from app.cli.datasets import find_or_import
    from app.core.settings import Settings
    from app.services import recommendation_service
    from app.services.studio import open_studio

    studio = open_studio(Settings())
    dataset_id = find_or_import(studio, data, terminal) if data is not None else None
    ranking = recommendation_service.rank_models(studio, vram_gb=vram, dataset_id=dataset_id, objective=objective)
    answer = recommendation_read(ranking, terminal.language)
    if terminal.as_json:
        terminal.document(answer)
    else:
        print_ranking(terminal, answer, everything=everything)


def print_ranking(terminal: Terminal, answer: "RecommendationRead", *, everything: bool) -> None:
    """Print one line a model, then the reason of the first and how many more there are."""
    from rich.markup import escape
    from rich.table import Table

    on_a_card = answer.device_name.endswith(" GB") and answer.memory_bytes % (GIB // 2) == 0
    where = terminal.say("recommend_card") if on_a_card else answer.device_name
    terminal.paragraph(
        f"[bold]{escape(where)}[/]  [dim]{format_bytes(answer.memory_bytes)} · "
        f"{terminal.say('rows_counted' if answer.dataset_id else 'rows_assumed', rows=answer.train_rows)} · "
        f"{terminal.say('objective_' + answer.objective)}[/]"
    )
    terminal.print()
    shown = [model for model in answer.models if everything or model.recommended]
    if not shown:
        terminal.print(terminal.say("recommend_none"))
        return
    wide = terminal.console.width >= WIDE_COLUMNS
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    headings = ["place", "model", "quality", "time", "memory", *(["training"] if wide else []), *(["fit"] if everything else [])]
    for heading in headings:
        right = heading in {"place", "quality", "time", "memory"}
        table.add_column(
            terminal.say(f"column_{heading}"), justify="right" if right else "left", no_wrap=heading != "model", overflow="fold"
        )
    for model in shown:
        cells = list_cells(terminal, model, wide=wide)
        table.add_row(*cells[: len(headings)], style="dim" if model.dominated or not model.recommended else None)
    terminal.console.print(table)
    best = shown[0]
    terminal.print()
    terminal.paragraph(f"[cyan]▸[/] {escape(best.name)}: {escape(best.reason)} [dim]({escape(best.quality_source)})[/]")
    hidden = len(answer.models) - len(shown)
    if hidden:
        terminal.paragraph(f"[dim]{terminal.say('recommend_hidden', count=hidden)}[/]", indent=2)


def list_cells(terminal: Terminal, model: "RecommendedModel", *, wide: bool) -> list[str]:
    """Return one line of the table."""
    plan = model.plan
    bits = terminal.say("bits_4") if plan.quantization == "nf4" else plan.dtype
    training = f"{plan.batch_size} × {plan.gradient_accumulation_steps} · {plan.max_length} · {bits}"
    cells = [
        str(model.rank),
        f"[bold]{model.id}[/]" if model.rank == 1 else model.id,
        f"{model.quality:.1f}".replace(".", "," if terminal.language == "fr" else "."),
        format_seconds(model.seconds_p50),
        format_bytes(model.peak_bytes),
    ]
    if wide:
        cells.append(f"[dim]{training}[/]")
    return [*cells, f"[{FIT_STYLES[model.verdict]}]{terminal.say('fit_' + model.verdict)}[/]"]
