"""`affinage data`: import files, list data sets, look into one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.flags import JsonFlag
from app.cli.import_progress import show_progress
from app.cli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.api.schemas.datasets import DatasetRead, ProblemRead, RowRead
    from app.contracts.dataset import Mapping
    from app.services.studio import Studio

app = typer.Typer(help="Import and inspect data sets.", no_args_is_help=True)
SHOWN_PROBLEMS = 5

MapOption = Annotated[list[str] | None, typer.Option("--map", help="PART=COLUMN, for example output=Answer; repeatable.")]
ShapeOption = Annotated[str | None, typer.Option("--shape", help="Arrangement of the columns, with --map.")]
DatasetArgument = Annotated[str, typer.Argument(help="An id from `affinage data list`.")]
FileArgument = Annotated[Path, typer.Argument(help="Any table or text file.", exists=True, dir_okay=False, readable=True)]


@app.command("import")
def import_file(
    context: typer.Context,
    file: FileArgument,
    name: Annotated[str | None, typer.Option(help="A title; automatic = the file's name.")] = None,
    shape: ShapeOption = None,
    parts: MapOption = None,
    _json: JsonFlag = False,
) -> None:
    """Import a file: its format and columns are detected, each problem is named with its row."""
    terminal: Terminal = context.obj
    from app.core.settings import Settings
    from app.services.studio import open_studio

    answer = import_path(open_studio(Settings()), file, name, terminal, _given_mapping(terminal, shape, parts))
    if terminal.as_json:
        terminal.document(answer)
    else:
        print_dataset(terminal, answer)
        terminal.print(f"\n[dim]affinage finetune {answer.dataset_id}[/]", style=None)


@app.command("check")
def check_file(
    context: typer.Context, file: FileArgument, shape: ShapeOption = None, parts: MapOption = None, _json: JsonFlag = False
) -> None:
    """Say what a file holds and whether it can be trained on, without importing it: exit code 0 usable, 1 not."""
    terminal: Terminal = context.obj
    from app.api.wording import check_read
    from app.core.errors import AffinageError
    from app.services.dataset_check import check_path

    try:
        with show_progress(terminal) as watch:
            found = check_path(file, mapping=_given_mapping(terminal, shape, parts), watch=watch)
        answer = check_read(found, terminal.language)
    except AffinageError as error:
        if not terminal.as_json:
            raise
        answer = check_read(error, terminal.language)
    terminal.document(answer)
    terminal.print(f"[bold]{_escaped(file.name)}[/]")
    if answer.status == "needs_mapping":
        print_proposal(terminal, answer.shape, answer.mapping)
    else:
        terminal.print(
            terminal.say(
                "check_usable", rows=answer.rows, format=answer.format, shape=answer.shape,
                confidence=round(100 * answer.confidence), duplicates=answer.duplicates, problems=answer.problem_count,
            )
        )  # fmt: skip
    print_problems(terminal, [*answer.remarks, *answer.problems[:SHOWN_PROBLEMS]], answer.problem_count)
    raise typer.Exit(0 if answer.usable else 1)


@app.command("read")
def read_file(file: FileArgument) -> None:
    """Print the rows as read, before any mapping: one JSON object of strings a line, in UTF-8."""
    import json
    import sys

    from app.services.dataset_check import read_path

    # A console or a pipe may have another encoding, which cannot write every letter.
    sys.stdout.buffer.writelines(json.dumps(values, ensure_ascii=False).encode() + b"\n" for values in read_path(file))


def _given_mapping(terminal: Terminal, shape: str | None, parts: list[str] | None) -> "Mapping | None":
    if shape is None and not parts:
        return None
    from app.contracts.dataset import Mapping

    pairs = [part.partition("=") for part in parts or []]
    known = Mapping.model_fields.keys() - {"shape"}
    if any(not column or part not in known for part, _, column in pairs):
        raise typer.BadParameter(terminal.say("map_form", parts=", ".join(sorted(known))))
    return Mapping.model_validate({"shape": shape or "question_answer", **{part: column for part, _, column in pairs}})


def _parts(mapping: "Mapping | None") -> list[tuple[str, str]]:
    given = mapping.model_dump(exclude_none=True, exclude={"shape"}) if mapping is not None else {}
    return list(given.items())


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def import_path(
    studio: "Studio", file: Path, name: str | None, terminal: Terminal, mapping: "Mapping | None" = None
) -> "DatasetRead":
    """Import one file and return what the API would answer."""
    from app.api.wording import dataset_read
    from app.services import dataset_service
    from app.services.dataset_check import whole_file

    with show_progress(terminal) as watch, whole_file(file) as source:
        info = dataset_service.import_upload(studio, source, filename=file.name, name=name, mapping=mapping, watch=watch)
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
    if not (file.is_file() or file.is_fifo()):
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


@app.command("findings")
def show_findings(context: typer.Context, dataset_id: DatasetArgument, _json: JsonFlag = False) -> None:
    """Look at the rows a second time: duplicates, contradictions, refusals, languages, lengths, personal data."""
    terminal: Terminal = context.obj
    from app.api.wording import analysis_read
    from app.core.settings import Settings
    from app.services.analyses import AnalysisState
    from app.services.dataset_service import get_dir
    from app.services.studio import open_studio

    studio = open_studio(Settings())
    found = analysis_read(AnalysisState("done", analysis=studio.analyses.get(get_dir(studio, dataset_id))), terminal.language)
    terminal.document(found)
    languages = ", ".join(f"{name} {count}" for name, count in found.languages.items())
    terminal.print(terminal.say("findings_summary", rows=found.rows, languages=languages or "-"))
    for finding in found.findings:
        terminal.print(f"[yellow]![/] [bold]{finding.code}[/]  {_escaped(finding.message)} [dim]{_escaped(finding.hint)}[/]")
    if found.findings:
        codes = " ".join(finding.code for finding in found.findings)
        terminal.print(f"\n[dim]affinage data fix {dataset_id} {codes}[/]", style=None)


@app.command("fix")
def fix_findings(
    context: typer.Context,
    dataset_id: DatasetArgument,
    findings: Annotated[list[str], typer.Argument(help="Codes from `affinage data findings`, or bad_rows.")],
    _json: JsonFlag = False,
) -> None:
    """Mend findings in a new version; the data set itself stays as it is."""
    terminal: Terminal = context.obj
    from app.api.wording import dataset_read
    from app.core.settings import Settings
    from app.services.dataset_versions import fix_dataset
    from app.services.studio import open_studio

    answer = dataset_read(fix_dataset(open_studio(Settings()), dataset_id, findings), terminal.language)
    if terminal.as_json:
        terminal.document(answer)
        return
    print_dataset(terminal, answer)
    for change in answer.changes:
        terminal.print(f"[green]✓[/] {_escaped(change.message)}")


@app.command("export")
def export_rows(
    dataset_id: DatasetArgument,
    shape: Annotated[
        str, typer.Option(help="messages, sharegpt, alpaca, prompt_completion, question_answer, text, preference or unpaired.")
    ] = "messages",
) -> None:
    """Print the usable rows as JSON Lines in a shape of the field."""
    import sys
    from typing import get_args

    from app.core.settings import Settings
    from app.datasets.exporting import ExportShape
    from app.services.dataset_versions import export_rows as export
    from app.services.studio import open_studio

    known = {str(name): name for name in get_args(ExportShape)}
    if shape not in known:
        raise typer.BadParameter(", ".join(known))
    sys.stdout.buffer.writelines(export(open_studio(Settings()), dataset_id, known[shape]))


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
    if not answer.confirmed:
        print_proposal(terminal, answer.shape, answer.mapping)
    for notice in answer.notices:
        terminal.print(f"[yellow]![/] {notice}")
    print_problems(terminal, [*answer.remarks, *answer.problems[:SHOWN_PROBLEMS]], answer.problem_count)


def print_proposal(terminal: Terminal, shape: str | None, mapping: "Mapping | None") -> None:
    """Print that a mapping is only proposed, and how to confirm it."""
    given = " ".join(f"--map {part}={column}" for part, column in _parts(mapping))
    shown = ", ".join(f"{part} = {column}" for part, column in _parts(mapping))
    example = f"--shape {shape} {given}"
    terminal.print("[yellow]?[/] " + _escaped(terminal.say("check_unsure", mapping=shown, example=example)))


def print_problems(terminal: Terminal, shown: "Sequence[ProblemRead]", count: int) -> None:
    """Print what is wrong, each with its row and column; `count`: of all problems of rows."""
    for problem in shown:
        place = ""
        if problem.row and problem.column:
            place = terminal.say("row_column", row=problem.row, column=problem.column)
        elif problem.row:
            place = terminal.say("row", row=problem.row)
        text = _escaped(f"{place} {problem.message}".strip())
        terminal.print(f"[yellow]![/] {text} [dim]{_escaped(problem.hint)}[/]")
    if count > SHOWN_PROBLEMS:
        terminal.print(f"  [dim]{terminal.say('more_problems', count=count - SHOWN_PROBLEMS)}[/]")


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
