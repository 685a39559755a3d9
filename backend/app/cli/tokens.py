"""`affinage tokens`: make, list and revoke access tokens; a running server follows at once."""

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.flags import JsonFlag
from app.cli.terminal import Terminal

if TYPE_CHECKING:
    from app.services.access_service import Access

app = typer.Typer(help="Make, list and revoke access tokens.", invoke_without_command=True)


def open_access() -> "Access":
    """Return the door of the data folder."""
    from app.core.settings import Settings
    from app.services.access_service import Access

    return Access(Settings())


@app.callback()
def default(context: typer.Context, _json: JsonFlag = False) -> None:
    """List tokens when no other command is named."""
    if context.invoked_subcommand is None:
        list_tokens(context)


@app.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What it is for, so that it can be revoked later.")],
    days: Annotated[int | None, typer.Option(min=1, max=3650, help="Days until it expires; automatic = never.")] = None,
    _json: JsonFlag = False,
) -> None:
    """Make a token and show it, once."""
    terminal: Terminal = context.obj
    from app.api.schemas.access import CreateTokenRequest

    asked = CreateTokenRequest(name=name, expires_in_days=days)
    record, secret = open_access().create(asked.name, asked.expires_in_days)
    if terminal.as_json:
        terminal.document(record.model_dump(include={"id", "name", "created_at", "expires_at"}) | {"token": secret})
        return
    print(secret)  # alone on stdout, so that it can be piped into a password store
    terminal.errors.print(f"[dim]{terminal.say('token_shown_once')}[/]")


@app.command("list")
def list_tokens(context: typer.Context, _json: JsonFlag = False) -> None:
    """List tokens and signed-in browsers, newest first."""
    terminal: Terminal = context.obj
    found = open_access().list()
    fields = {"id", "kind", "name", "created_at", "expires_at"}
    if terminal.as_json:
        terminal.document({"tokens": [record.model_dump(include=fields) for record in found]})
    elif not found:
        terminal.print(terminal.say("no_tokens"))
    else:
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for heading in ("token", "kind", "title", "created", "expires"):
            table.add_column(terminal.say(f"column_{heading}"))
        for record in found:
            until = record.expires_at[:10] if record.expires_at else "-"
            table.add_row(record.id, terminal.say(f"kind_{record.kind}"), escape(record.name), record.created_at[:10], until)
        terminal.console.print(table)


@app.command("revoke")
def revoke(
    context: typer.Context,
    token_id: Annotated[str, typer.Argument(help="An id from `affinage tokens`.", metavar="TOKEN_ID")],
    _json: JsonFlag = False,
) -> None:
    """End a token, with the browsers that signed in by it."""
    terminal: Terminal = context.obj
    open_access().revoke(token_id)
    terminal.document({"revoked": token_id})
    terminal.print(terminal.say("token_revoked", token_id=token_id))


@app.command("link")
def link(context: typer.Context, _json: JsonFlag = False) -> None:
    """Print a link that opens the page of a running server once, within ten minutes."""
    terminal: Terminal = context.obj
    access = open_access()
    address = f"http://localhost:{access.settings.port}/sign-in#code={access.make_launch_code()}"
    terminal.document({"link": address})
    terminal.print(address)
