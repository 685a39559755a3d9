"""`affinage backup` and `affinage restore`: the data folder as one file, taken while trainings run."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.flags import JsonFlag
from app.cli.terminal import Terminal

if TYPE_CHECKING:
    from app.services.index_service import RebuiltIndex


def backup(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="Where to write; automatic = affinage-<date>.tar here.")] = None,
    with_models: Annotated[bool, typer.Option("--with-models", help="Put the models' weights in too.")] = False,
    _json: JsonFlag = False,
) -> None:
    """Write jobs, data sets and results into one file; servers and trainings go on meanwhile."""
    terminal: Terminal = context.obj
    from app.core.settings import Settings
    from app.core.units import format_bytes
    from app.services.backup_service import back_up
    from app.storage.job_dir import utc_now

    target = (file or Path(f"affinage-{utc_now()[:19].replace(':', '').replace('T', '-')}.tar")).absolute()
    made = back_up(Settings(), target, with_models=with_models)
    if terminal.as_json:
        terminal.document({"file": str(made.file), "size_bytes": made.size_bytes, "jobs": made.jobs, "datasets": made.datasets})
    else:
        size = format_bytes(made.size_bytes)
        terminal.print(terminal.say("backed_up", file=made.file, size=size, jobs=made.jobs, datasets=made.datasets))


def restore(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A file of `affinage backup`.")],
    _json: JsonFlag = False,
) -> None:
    """Put a backup into the empty data folder; unfinished jobs go on with the next `affinage serve`."""
    terminal: Terminal = context.obj
    from app.core.settings import Settings
    from app.services.backup_service import restore as put_back

    print_rebuilt(terminal, put_back(Settings(), file.absolute()))


def print_rebuilt(terminal: Terminal, rebuilt: "RebuiltIndex") -> None:
    """Print what is listed again, and what could not be."""
    if terminal.as_json:
        terminal.document({**asdict(rebuilt), "set_aside": str(rebuilt.set_aside) if rebuilt.set_aside else None})
        return
    terminal.print(terminal.say("index_rebuilt", jobs=rebuilt.jobs, datasets=rebuilt.datasets, events=rebuilt.events))
    if rebuilt.set_aside is not None:
        terminal.print(terminal.say("index_set_aside", file=rebuilt.set_aside))
    for name in rebuilt.unreadable:
        terminal.print(terminal.say("index_unreadable", name=name))
