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
) -> None:
    """Serve the web page and the API."""
    terminal: Terminal = context.obj
    chosen = {"HOST": host, "PORT": port, "DATA_DIR": data_dir.expanduser().absolute() if data_dir else None}
    for name, value in chosen.items():
        if value is not None:
            os.environ[f"AFFINAGE_{name}"] = str(value)  # trainers and the chat worker inherit it

    from app.core.settings import Settings
    from app.main import serve as run_server

    settings = Settings()
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    terminal.print(f"\n  [bold]Affinage[/]  http://{'localhost' if shown in ('127.0.0.1', '[::1]') else shown}:{settings.port}")
    terminal.print(f"  [dim]{terminal.say('serve_hint', data_dir=settings.data_dir)}[/]\n")
    sys.stdout.flush()
    run_server(settings)
