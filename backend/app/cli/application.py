"""Put the commands together, and turn every way of ending into an exit status: 0 done, 1 failed, 2 wrong usage."""

import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from app.cli import backup, calibrate, chat, datasets, doctor, export, finetune, jobs, models, recommend, serve, settings, tokens
from app.cli.terminal import Terminal, open_terminal

DATA_DIR = "AFFINAGE_DATA_DIR"


def build(*, with_options: bool = True) -> typer.Typer:
    """Return the whole command line.

    Without `with_options`, `plan` and `finetune` are only listed: their options come from the contract, and importing
    that takes half of the time in which `affinage --help` should answer.
    """
    app = typer.Typer(
        name="affinage",
        help="Fine-tune language models on your own machine: pick a model, everything else is configured for you.",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        callback=choose_data_dir,
    )
    app.command("serve")(serve.serve)
    app.add_typer(models.app, name="models")
    app.command("recommend")(recommend.recommend)
    choosing: dict[str, Callable[..., None]] = {"plan": finetune.plan, "finetune": finetune.finetune}
    for name, command in choosing.items():
        app.command(name)(complete(command) if with_options else only_listed(command))
    app.add_typer(jobs.app, name="jobs")
    app.command("chat")(chat.chat)
    app.command("export")(export.export)
    app.add_typer(datasets.app, name="data")
    app.command("settings")(settings.settings)
    app.add_typer(tokens.app, name="tokens")
    app.command("calibrate")(calibrate.calibrate)
    app.command("backup")(backup.backup)
    app.command("restore")(backup.restore)
    app.command("doctor")(doctor.doctor)
    return app


def complete(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the hyper-parameters of the contract."""
    from app.cli.options import takes_options

    return takes_options(command)


def only_listed(command: Callable[..., None]) -> Callable[[], None]:
    """Return a stand-in that has the help text of `command` and nothing else."""

    def listed() -> None:
        raise AssertionError("a command line that names this command builds it in full")

    listed.__doc__ = command.__doc__
    return listed


def show_version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        from importlib.metadata import version

        print(f"affinage {version('affinage')}")
        raise typer.Exit


def choose_data_dir(
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Folder of all data; else AFFINAGE_DATA_DIR, else the default.")
    ] = None,
    _version: Annotated[bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Set the data folder before any command reads the settings; child processes inherit it."""
    if data_dir is not None:
        os.environ[DATA_DIR] = str(data_dir.expanduser().absolute())


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit status."""
    terminal = open_terminal(arguments)
    command = typer.main.get_command(build(with_options=not {"plan", "finetune"}.isdisjoint(arguments)))
    try:
        status = command.main(args=arguments, prog_name="affinage", standalone_mode=False, obj=terminal)
    except typer.Abort:
        return 1
    except typer.TyperException as error:
        return refuse_usage(terminal, error)
    except KeyboardInterrupt:
        terminal.errors.print()
        return 1
    except BrokenPipeError:
        # The reader went away (`affinage models | head`): nothing is left to say, not even while Python shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as error:  # noqa: BLE001 - the process entry: whatever was not expected ends here, with a log
        return report_failure(terminal, error)
    return status if isinstance(status, int) else 0


def refuse_usage(terminal: Terminal, error: typer.TyperException) -> int:
    """Say what is wrong with the command line and where its help is."""
    context = getattr(error, "ctx", None)
    if context is not None and not context.args and type(error).__name__ == "NoArgsIsHelpError":
        print(context.get_help())
        return 2
    path = context.command_path if context is not None else "affinage"
    formatted = getattr(error, "format_message", lambda: str(error))()
    terminal.report("usage", formatted, terminal.say("usage_hint", command=path))
    return int(getattr(error, "exit_code", 2))


def report_failure(terminal: Terminal, error: Exception) -> int:
    """Report an expected failure by its sentence, a refused value as wrong usage, anything else with a log file."""
    from pydantic import ValidationError
    from sqlalchemy.exc import OperationalError

    from app.api.errors import Busy, find_known, is_away
    from app.core.errors import AffinageError

    if isinstance(error, OperationalError) and is_away(error):
        error = Busy("away_because", reason=" ".join(str(error.orig).split())[:300])
    elif isinstance(error, OSError | OperationalError):
        error = find_known(error) or error
    if isinstance(error, AffinageError):
        terminal.fail(error)
        return 1
    if isinstance(error, ValidationError):
        from app.cli.refusals import report_refused_values

        report_refused_values(terminal, error)
        return 2
    from app.core.settings import Settings

    log = Settings().data_dir / "logs" / "cli.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        traceback.print_exception(error, file=file)
    terminal.fail(AffinageError(log=log))
    return 1
