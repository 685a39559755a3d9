"""`affinage doctor`: test each link of the chain for real, down to three training steps, and say what is broken."""

from dataclasses import asdict
from typing import Annotated

import typer

from app.cli.finding import Finding
from app.cli.flags import JsonFlag
from app.cli.terminal import Terminal

MARKS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "failed": "[red]✗[/]"}


def doctor(
    context: typer.Context,
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the three training steps.")] = False,
    rebuild_index: Annotated[
        bool, typer.Option("--rebuild-index", help="Only make the database again from the folders of jobs and data sets.")
    ] = False,
    _json: JsonFlag = False,
) -> None:
    """Test this installation and train a tiny model for three steps. Exits with 1 when something needed is broken."""
    terminal: Terminal = context.obj
    if rebuild_index:
        rebuild(terminal)
        return
    from app.cli.examination import examine
    from app.cli.rehearsal import rehearse
    from app.core.settings import Settings

    settings = Settings()
    findings: list[Finding] = []
    for finding in examine(settings, terminal):
        findings.append(finding)
        print_finding(terminal, finding)
    if not quick and all(finding.state != "failed" for finding in findings):
        for finding in rehearse(terminal):
            findings.append(finding)
            print_finding(terminal, finding)
    failed = [finding for finding in findings if finding.state == "failed"]
    if terminal.as_json:
        terminal.document({"ok": not failed, "checks": [asdict(finding) for finding in findings]})
    else:
        terminal.print(f"\n{terminal.say('doctor_broken', count=len(failed)) if failed else terminal.say('doctor_well')}")
    if failed:
        raise typer.Exit(1)


def rebuild(terminal: Terminal) -> None:
    """Make the database again. Its folders are the truth; nobody may be at work on them meanwhile."""
    from app.cli.backup import print_rebuilt
    from app.core.settings import Settings
    from app.services.index_service import rebuild_index

    print_rebuilt(terminal, rebuild_index(Settings()))


def print_finding(terminal: Terminal, finding: Finding) -> None:
    """Print one line, and what to do when it is not well."""
    from rich.markup import escape

    terminal.print(f"{MARKS[finding.state]} {terminal.say('doctor_' + finding.name):<22} {escape(finding.detail)}")
    if finding.hint:
        terminal.print(f"  [dim]{escape(finding.hint)}[/]")
