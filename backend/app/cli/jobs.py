"""`affinage jobs`: list, look at, follow, pause, resume, cancel, read the trainer's log."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from app.cli.flags import JsonFlag
from app.cli.report import print_comparison
from app.cli.terminal import Terminal

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.api.schemas.jobs import JobDetail, JobRead

app = typer.Typer(help="List and control jobs.", invoke_without_command=True)
JobId = Annotated[str, typer.Argument(help="An id from `affinage jobs`, or `last`.", metavar="JOB_ID")]
STATUS_STYLES = {"succeeded": "green", "failed": "red", "cancelled": "dim", "running": "cyan", "starting": "cyan"}


@app.callback()
def default(context: typer.Context, _json: JsonFlag = False) -> None:
    """List jobs when no other command is named."""
    if context.invoked_subcommand is None:
        list_jobs(context)


@app.command("list")
def list_jobs(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most this many.")] = 20,
    _json: JsonFlag = False,
) -> None:
    """List jobs, newest first."""
    terminal: Terminal = context.obj
    from app.api.schemas.jobs import JobList
    from app.api.wording import job_read
    from app.core.settings import Settings
    from app.services import job_service
    from app.services.studio import open_studio

    studio = open_studio(Settings())
    with studio.database.reading() as session:
        found = [job_read(studio, row, terminal.language) for row in job_service.list_jobs(session, limit=limit)]
    if terminal.as_json:
        terminal.document(JobList(jobs=found))
    elif not found:
        terminal.print(terminal.say("no_jobs"))
    else:
        print_jobs(terminal, found)


def print_jobs(terminal: Terminal, found: "list[JobRead]") -> None:
    """Print one line per job."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("job", "status", "model", "title", "progress", "loss"):
        table.add_column(terminal.say(f"column_{heading}"), justify="right" if heading in ("progress", "loss") else "left")
    for job in found:
        loss = job.progress.heldout_loss if job.progress.heldout_loss is not None else job.progress.loss
        status = f"[{STATUS_STYLES.get(job.status, 'default')}]{terminal.say('status_' + job.status)}[/]"
        table.add_row(
            job.job_id,
            status,
            job.model_name,
            job.dataset_name,
            f"{job.progress.fraction:.0%}",
            "" if loss is None else f"{loss:.3f}",
        )
    terminal.console.print(table)


@app.command("show")
def show(context: typer.Context, job_id: JobId, _json: JsonFlag = False) -> None:
    """Show a job: status, plan, result, and the command that starts it again."""
    terminal: Terminal = context.obj
    from app.api.report_wording import report_read
    from app.api.wording import job_detail
    from app.core.settings import Settings
    from app.services import job_service
    from app.services.studio import open_studio

    studio = open_studio(Settings())
    with studio.database.reading() as session:
        row = job_service.get_job(session, resolve(session, job_id))
        detail = job_detail(studio, session, row, terminal.language)
    folder = studio.job_dir(detail.job_id)
    trained = folder.find_report()
    report = report_read(trained, folder.find_comparison(), terminal.language) if trained else None
    if terminal.as_json:
        terminal.document({"job": detail, "report": report})
        return
    print_detail(terminal, detail)
    if report is not None:
        terminal.print(f"  {report.summary}")
        print_comparison(terminal, report)
    terminal.print(f"\n[dim]{detail.commands['cli']}[/]")


@app.command("report")
def report(
    context: typer.Context,
    job_id: JobId,
    html: Annotated[Path | None, typer.Option("--html", help="Also write it as one HTML file, to keep or to send.")] = None,
    _json: JsonFlag = False,
) -> None:
    """Show what training changed: the original and the trained model on the same held-out rows."""
    terminal: Terminal = context.obj
    from app.api.report_page import render_report
    from app.api.report_wording import report_read
    from app.core.settings import Settings
    from app.services import report_service
    from app.services.studio import open_studio

    studio = open_studio(Settings())
    with studio.database.reading() as session:
        found_id = resolve(session, job_id)
        found = report_service.get_report(studio, session, found_id)
    shown = report_read(found.report, found.comparison, terminal.language)
    if html is not None:
        html.write_text(render_report(found.job, shown, report_service.list_events(studio, found_id), terminal.language), "utf-8")
    terminal.document(shown)
    terminal.print(shown.summary)
    print_comparison(terminal, shown)


@app.command("capsule")
def capsule(
    context: typer.Context,
    job_id: JobId,
    to: Annotated[Path | None, typer.Option("--to", help="Write it into this file instead of printing it.")] = None,
    _json: JsonFlag = False,
) -> None:
    """Print everything by which a job can be told, compared and repeated, without any text of its data."""
    terminal: Terminal = context.obj
    from app.core.settings import Settings
    from app.services import capsule_service
    from app.services.studio import open_studio

    studio = open_studio(Settings())
    with studio.database.reading() as session:
        text = capsule_service.make_capsule(studio, session, resolve(session, job_id)).model_dump_json(indent=2)
    if to is None:
        print(text)
        return
    to.write_text(text + "\n", "utf-8")
    terminal.document({"file": str(to)})
    terminal.print(terminal.say("written", path=str(to)))


@app.command("track")
def track(
    context: typer.Context,
    job_id: JobId,
    tracker: Annotated[Literal["tensorboard", "mlflow", "wandb"], typer.Argument(help="Who gets the curves.")],
    to: Annotated[Path | None, typer.Option("--to", help="Folder to write below; else `trackers` in the data folder.")] = None,
    _json: JsonFlag = False,
) -> None:
    """Write a job's settings and curves for TensorBoard, MLflow or Weights & Biases (offline); no row of its data."""
    terminal: Terminal = context.obj
    from app.core.settings import Settings
    from app.services import trackers
    from app.services.studio import open_studio

    studio = open_studio(Settings())
    with studio.database.reading() as session:
        found_id = resolve(session, job_id)
    written = trackers.write_run(studio.job_dir(found_id), tracker, to or studio.settings.data_dir / "trackers")
    terminal.document({"folder": str(written)})
    terminal.print(terminal.say("written", path=str(written)))


@app.command("start")
def start(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A configuration file, as a job's page gives it.", exists=True, dir_okay=False)],
    _json: JsonFlag = False,
) -> None:
    """Start the job that a configuration file describes, and leave; it goes on by itself."""
    terminal: Terminal = context.obj
    from app.api.schemas.plans import StartFinetuningRequest
    from app.api.wording import started_read
    from app.cli.finetune import leave
    from app.core.settings import Settings
    from app.services import finetuning_service
    from app.services.studio import open_studio

    request = StartFinetuningRequest.model_validate_json(file.read_bytes())
    studio = open_studio(Settings())
    with studio.supervising() as supervises:
        row = finetuning_service.finetune(studio, **request.arguments())
        leave(studio, terminal, row.job_id, supervises)
        terminal.document(started_read(studio, row, terminal.language))


def print_detail(terminal: Terminal, detail: "JobDetail") -> None:
    """Print the state of a job and its plan."""
    from app.cli.plan_view import print_plan

    print_jobs(terminal, [detail])
    if detail.error is not None:
        terminal.print(f"[red]{detail.error.message}[/] [dim]{detail.error.hint}[/]")
    terminal.print()
    print_plan(terminal, detail.plan)


@app.command("follow")
def follow(context: typer.Context, job_id: JobId, _json: JsonFlag = False) -> None:
    """Watch a job until it ends; with --json one event a line."""
    terminal: Terminal = context.obj
    from app.cli.finetune import finish
    from app.core.settings import Settings
    from app.services import job_service
    from app.services.studio import open_studio

    studio = open_studio(Settings())
    with studio.database.reading() as session:
        found = job_service.get_job(session, resolve(session, job_id)).job_id
    with studio.supervising():
        if not terminal.as_json:
            finish(studio, terminal, found)
            return
        for event in job_service.follow(studio, found):
            terminal.line(event)


@app.command("cancel")
def cancel(context: typer.Context, job_id: JobId, _json: JsonFlag = False) -> None:
    """Stop a job; a running one ends within a step."""
    terminal: Terminal = context.obj
    from app.api.wording import job_read
    from app.core.settings import Settings
    from app.services import job_service
    from app.services.studio import open_studio

    studio = open_studio(Settings())
    with studio.database.reading() as session:
        found = resolve(session, job_id)
    answer = job_read(studio, job_service.cancel(studio, found), terminal.language)
    if terminal.as_json:
        terminal.document(answer)
    else:
        terminal.print(terminal.say("job_" + answer.status, job_id=found))


@app.command("pause")
def pause(context: typer.Context, job_id: JobId, _json: JsonFlag = False) -> None:
    """Stop a running job at a checkpoint; `resume` goes on from there."""
    control(context, job_id, "pause")


@app.command("resume")
def resume(context: typer.Context, job_id: JobId, _json: JsonFlag = False) -> None:
    """Put a paused job back into the queue. A server, or the next `affinage` command that follows it, runs it."""
    control(context, job_id, "resume")


def control(context: typer.Context, job_id: str, move: Literal["pause", "resume"]) -> None:
    """Pause or resume a job and say where it stands."""
    terminal: Terminal = context.obj
    from app.api.wording import job_read
    from app.core.settings import Settings
    from app.services import job_control
    from app.services.studio import open_studio

    studio = open_studio(Settings())
    with studio.database.reading() as session:
        found = resolve(session, job_id)
    row = job_control.pause(studio, found) if move == "pause" else job_control.resume(studio, found)
    answer = job_read(studio, row, terminal.language)
    if terminal.as_json:
        terminal.document(answer)
    else:
        terminal.print(f"{found}: {terminal.say('status_' + answer.status)}")


@app.command("priority")
def prioritise(
    context: typer.Context,
    job_id: JobId,
    priority: Annotated[str, typer.Argument(help="A number, higher starts earlier; or `next`: before every job that waits.")],
    _json: JsonFlag = False,
) -> None:
    """Move a job in the queue. Put `--` before a negative number."""
    terminal: Terminal = context.obj
    if priority != "next" and not re.fullmatch(r"-?\d{1,6}", priority):
        raise typer.BadParameter(priority, param_hint="PRIORITY")
    from app.api.wording import job_read
    from app.core.settings import Settings
    from app.services import job_control
    from app.services.studio import open_studio

    studio = open_studio(Settings())
    with studio.database.reading() as session:
        found = resolve(session, job_id)
    row = job_control.prioritise(studio, found, "next" if priority == "next" else int(priority))
    if terminal.as_json:
        terminal.document(job_read(studio, row, terminal.language))
    else:
        terminal.print(terminal.say("job_priority", job_id=found, priority=row.priority))


@app.command("logs")
def logs(
    context: typer.Context,
    job_id: JobId,
    max_bytes: Annotated[int, typer.Option(min=1, max=1 << 20, help="How much of the end to print.")] = 65536,
    _json: JsonFlag = False,
) -> None:
    """Print the end of the trainer's own log."""
    terminal: Terminal = context.obj
    from app.api.schemas.jobs import LogRead
    from app.core.settings import Settings
    from app.services import job_service
    from app.services.studio import open_studio

    studio = open_studio(Settings())
    with studio.database.reading() as session:
        text, truncated = job_service.read_log(studio, session, resolve(session, job_id), max_bytes)
    if terminal.as_json:
        terminal.document(LogRead(text=text, truncated=truncated))
    else:
        print(text, end="" if text.endswith("\n") else "\n")


def resolve(session: "Session", job_id: str) -> str:
    """Return the id of the newest job for `last`, any other id as it is."""
    from app.services import job_service

    if job_id != "last":
        return job_id
    newest = job_service.list_jobs(session, limit=1)
    return newest[0].job_id if newest else job_id
