"""`affinage export`: make an export of a job, check it, and say where it lies."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.flags import JsonFlag
from app.cli.jobs import JobId
from app.cli.terminal import Terminal
from app.contracts.export import ExportFormat

if TYPE_CHECKING:
    from app.api.schemas.exports import ExportRead

POLL_SECONDS = 0.3


def export(
    context: typer.Context,
    job_id: JobId,
    export_format: Annotated[
        ExportFormat, typer.Option("--format", "-f", help="adapter, merged (safetensors), or GGUF for llama.cpp and Ollama.")
    ] = "merged",
    push: Annotated[str | None, typer.Option("--push", help="Then send it to this repository of the hub: owner/name.")] = None,
    public: Annotated[bool, typer.Option("--public", help="Make the repository a public one.")] = False,
    _json: JsonFlag = False,
) -> None:
    """Write a job's model as files for other programs; they are loaded back and compared with it before they count."""
    terminal: Terminal = context.obj
    from app.api.export_wording import export_read
    from app.cli.jobs import resolve
    from app.core.settings import Settings
    from app.services import export_service
    from app.services.studio import open_studio

    studio = open_studio(Settings())
    with studio.database.reading() as session:
        found = resolve(session, job_id)
    export_service.start_export(studio, found, export_format)
    said = None
    while True:
        with studio.database.reading() as session:
            exported = export_service.get_export(studio, session, found, export_format)
        if exported.state.status in ("succeeded", "failed"):
            break
        phase = exported.state.phase
        if phase is not None and phase != said:
            said = phase
            terminal.print(f"[dim]{terminal.say('export_' + phase)}[/]")
        time.sleep(POLL_SECONDS)
    shown = export_read(exported, terminal.language)
    terminal.document(shown)
    if not terminal.as_json:
        print_export(terminal, shown)
    if shown.status == "failed":
        raise typer.Exit(1)
    if push is not None:
        from app.services.pushes import push_now

        address = push_now(studio.job_dir(found).path, exported, push, private=not public)
        terminal.print(terminal.say("pushed", address=address))


def print_export(terminal: Terminal, shown: "ExportRead") -> None:
    """Print the certificate and where the files are."""
    from rich.markup import escape
    from rich.table import Table

    if shown.certificate is not None:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for heading in ("engine", "arithmetic", "places", "top1", "kl", "answers"):
            table.add_column(
                terminal.say(f"column_{heading}"), justify="left" if heading in ("engine", "arithmetic") else "right"
            )
        for row in shown.certificate.agreements:
            table.add_row(
                row.engine,
                row.arithmetic,
                str(row.positions),
                f"{100 * row.top1:.2f} %",
                f"{row.kl:.2g}",
                "" if row.tokens_per_second is None else f"{row.tokens_per_second:.0f}",
                style=None if row.within_bounds else "red",
            )
        terminal.console.print(table)
        for notice in shown.certificate.notices:
            terminal.paragraph(escape(notice.message))
    if shown.error is not None:
        terminal.report(shown.error.code, shown.error.message, shown.error.hint)
        return
    terminal.print(terminal.say("export_done", path=escape(shown.path)))
