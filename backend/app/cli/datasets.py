"""`affinage data`: import files, list data sets, look into one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.flags import JsonFlag
from app.cli.terminal import Terminal

if TYPE_CHECKING:
    from app.api.schemas.datasets import DatasetRead, RowRead
    from app.services.studio import Studio

app = typer.Typer(help="Import and inspect data sets.", no_args_is_help=True)
SHOWN_PROBLEMS = 5


@app.command("import")
def import_file(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A CSV, JSON or JSONL file.", exists=True, dir_okay=False, readable=True)],
    name: Annotated[str | None, typer.Option(help="A title; automatic = the file's name.")] = None,
    _json: JsonFlag = False,
) -> None:
    """Import a file: its format and columns are detected, each problem is named with its row."""
    terminal: Terminal = context.obj
    from app.core.settings import Settings
    from app.services.studio import open_studio

    answer = import_path(open_studio(Settings()), file, name, terminal)
    if terminal.as_json:
        terminal.document(answer)
    else:
        print_dataset(terminal, answer)
        terminal.print(f"\n[dim]affinage finetune {answer.dataset_id}[/]", style=None)


def import_path(studio: "Studio", file: Path, name: str | None, terminal: Terminal) -> "DatasetRead":
    """Import one file and return what the API would answer."""
    from app.api.wording import dataset_read
    from app.services import dataset_service

    info = dataset_service.import_upload(studio, file, filename=file.name, name=name)
    return dataset_read(info, terminal.language)


def find_twin(studio: "Studio", imported: "DatasetRead", terminal: Terminal) -> "DatasetRead":
    """Return the same file's earlier import and drop this one; the new one when there is none.

    Planning a file twice and then training on it must leave one data set, not three.
    """
    from app.api.wording import dataset_read
    from app.services import dataset_service

    with studio.database.reading() as session:
        found = [dataset_read(info, terminal.language) for info in dataset_service.list_datasets(studio, session)]
    for known in found:
        same = (known.name, known.content_hash, known.mapping) == (imported.name, imported.content_hash, imported.mapping)
        if same and known.dataset_id != imported.dataset_id:
            dataset_service.delete_dataset(studio, imported.dataset_id)
            return known
    return imported


def find_or_import(studio: "Studio", dataset: str, terminal: Terminal) -> str:
    """Return the id of a data set, importing it first when it is the path of a file."""
    file = Path(dataset).expanduser()
    if not file.is_file():
        return dataset
    imported = find_twin(studio, import_path(studio, file, None, terminal), terminal)
    if not terminal.as_json:
        print_dataset(terminal, imported)
        terminal.print()
    return imported.dataset_id


@app.command("list")
def list_datasets(context: typer.Context, _json: JsonFlag = False) -> None:
    """List data sets, newest first."""
    terminal: Terminal = context.obj
    from app.api.schemas.datasets import DatasetList
    from app.api.wording import dataset_read
    from app.core.settings import Settings
    from app.services import dataset_service
    from app.services.studio import open_studio

    studio = open_studio(Settings())
    with studio.database.reading() as session:
        found = [dataset_read(info, terminal.language) for info in dataset_service.list_datasets(studio, session)]
    if terminal.as_json:
        terminal.document(DatasetList(datasets=found))
    elif not found:
        terminal.print(terminal.say("no_datasets"))
    else:
        print_list(terminal, found)


def print_list(terminal: Terminal, found: "list[DatasetRead]") -> None:
    """Print one line per data set."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("dataset", "title", "rows", "held_out", "format"):
        table.add_column(terminal.say(f"column_{heading}"), justify="right" if heading in ("rows", "held_out") else "left")
    for entry in found:
        table.add_row(entry.dataset_id, entry.name, str(entry.rows), str(entry.splits.heldout), f"{entry.format} · {entry.shape}")
    terminal.console.print(table)


@app.command("show")
def show(
    context: typer.Context,
    dataset_id: Annotated[str, typer.Argument(help="An id from `affinage data list`.")],
    rows: Annotated[int, typer.Option(help="How many rows to show.", min=0, max=200)] = 3,
    _json: JsonFlag = False,
) -> None:
    """Show a data set and its first rows as training examples."""
    terminal: Terminal = context.obj
    from app.api.wording import dataset_read, row_read
    from app.core.settings import Settings
    from app.services import dataset_service
    from app.services.studio import open_studio

    studio = open_studio(Settings())
    answer = dataset_read(dataset_service.get_dataset(studio, dataset_id), terminal.language)
    found, _total = dataset_service.list_rows(studio, dataset_id, 0, rows) if rows else ([], 0)
    shown = [row_read(row, terminal.language) for row in found]
    if terminal.as_json:
        terminal.document({**answer.model_dump(mode="json"), "rows_shown": shown})
        return
    print_dataset(terminal, answer)
    for row in shown:
        print_row(terminal, row)


def print_dataset(terminal: Terminal, answer: "DatasetRead") -> None:
    """Print what the import found out."""
    from rich.markup import escape

    terminal.print(f"[bold]{escape(answer.name)}[/]  [dim]{answer.dataset_id}[/]")
    terminal.print(
        terminal.say(
            "dataset_summary", rows=answer.rows, train=answer.splits.train, heldout=answer.splits.heldout,
            format=answer.format, shape=answer.shape,
        )
    )  # fmt: skip
    for notice in answer.notices:
        terminal.print(f"[yellow]![/] {notice}")
    for problem in answer.problems[:SHOWN_PROBLEMS]:
        place = terminal.say("row", row=problem.row) if problem.row else ""
        terminal.print(f"[yellow]![/] {place} {escape(problem.message)} [dim]{escape(problem.hint)}[/]")
    if answer.problem_count > SHOWN_PROBLEMS:
        terminal.print(f"  [dim]{terminal.say('more_problems', count=answer.problem_count - SHOWN_PROBLEMS)}[/]")


def print_row(terminal: Terminal, row: "RowRead") -> None:
    """Print one row as the model will read it."""
    from rich.markup import escape

    terminal.print(f"\n[dim]{terminal.say('row', row=row.row)}[/]")
    for message in row.messages or []:
        terminal.print(f"  [cyan]{message.role}[/]  {escape(message.content)}")
    if row.rejected:
        terminal.print(f"  [yellow]✗ {row.rejected[-1].role}[/]  {escape(row.rejected[-1].content)}")
    if row.text is not None:
        terminal.print(f"  {escape(row.text)}")
