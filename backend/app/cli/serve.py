"""`affinage serve`: the page and the API, until Ctrl-C."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli.terminal import Terminal


def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on; automatic = 127.0.0.1, this machine only.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; automatic = 8000.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of all data.")] = None,
    require_token: Annotated[
        bool, typer.Option("--require-token", help="Ask for a token on this machine too; elsewhere one is always needed.")
    ] = False,
) -> None:
    """Serve the web page and the API."""
    terminal: Terminal = context.obj
    chosen: dict[str, object] = {"HOST": host, "PORT": port, "DATA_DIR": data_dir.expanduser().absolute() if data_dir else None}
    chosen["REQUIRE_TOKEN"] = "true" if require_token else None
    for name, value in chosen.items():
        if value is not None:
            os.environ[f"AFFINAGE_{name}"] = str(value)  # trainers and the chat worker inherit it

    from app.core.settings import Settings
    from app.main import serve as run_server
    from app.services.exposure import find_other_people, needs_credential

    settings = Settings()
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{'localhost' if shown in ('127.0.0.1', '[::1]') else shown}:{settings.port}"

    def announce(launch_code: str | None) -> None:
        terminal.print(f"\n  [bold]Affinage[/]  {address}")
        terminal.print(f"  [dim]{terminal.say('serve_hint', data_dir=settings.data_dir)}[/]")
        if launch_code is not None:
            # After #, so that it is sent to no server and stands in no log; it works once.
            terminal.print(f"  {terminal.say('launch_link')} {address}/sign-in#code={launch_code}")
        elif not needs_credential(settings) and (others := find_other_people()):
            terminal.print(f"  [yellow]{terminal.say('other_people', names=', '.join(others[:5]))}[/]")
        terminal.print()
        sys.stdout.flush()

    run_server(settings, announce)
