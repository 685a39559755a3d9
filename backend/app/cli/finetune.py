"""`affinage plan` and `affinage finetune`: what a job would take, and the job itself from start to result.

Both receive the hyper-parameters as `options`: `application.build` wraps them with `options.takes_options`.
"""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.flags import JsonFlag
from app.cli.report import print_comparison
from app.cli.terminal import Terminal

if TYPE_CHECKING:
    from app.api.schemas.jobs import JobDetail
    from app.api.schemas.plans import StartFinetuningRequest
    from app.api.schemas.reports import ReportRead
    from app.services.studio import Studio

Source = Annotated[str, typer.Argument(help="An id from `affinage data list`, or a CSV, JSON or JSONL file to import.")]
Model = Annotated[str | None, typer.Option("--model", "-m", help="A model id or folder; automatic = the preselected one.")]
Device = Annotated[str | None, typer.Option("--device-id", help="`cpu` or `cuda:N`; automatic = the best device.")]
Earlier = Annotated[
    str | None, typer.Option("--continue-from", help="A finished job whose adapter is trained further with these rows.")
]
Title = Annotated[str | None, typer.Option("--name", help="A title for the job.")]
Exports = Annotated[
    list[str] | None,
    typer.Option("--exports", help="Write the model in this format when it is trained; may be repeated."),
]
Detach = Annotated[bool, typer.Option("--detach", help="Start the job and leave; it goes on by itself.")]


def plan(
    context: typer.Context,
    dataset: Source,
    options: dict[str, Any],
    model: Model = None,
    device_id: Device = None,
    continue_from: Earlier = None,
    _json: JsonFlag = False,
) -> None:
    """Show memory, time and every automatic choice of a job. Starts nothing."""
    terminal: Terminal = context.obj
    from app.api.wording import plan_read
    from app.cli.plan_view import print_plan
    from app.core.settings import Settings
    from app.services import planning_service
    from app.services.studio import open_studio

    studio = open_studio(Settings())
    request = build_request(studio, terminal, dataset, model, {"device_id": device_id, "continue_from": continue_from, **options})
    answer = plan_read(studio, planning_service.plan(studio, **request.arguments()), terminal.language)
    if terminal.as_json:
        terminal.document(answer)
    else:
        print_plan(terminal, answer)


def finetune(
    context: typer.Context,
    dataset: Source,
    options: dict[str, Any],
    model: Model = None,
    name: Title = None,
    device_id: Device = None,
    continue_from: Earlier = None,
    exports: Exports = None,
    detach: Detach = False,
    _json: JsonFlag = False,
) -> None:
    """Fine-tune a model on a data set, with live progress. Ctrl-C asks whether to cancel or to leave it running."""
    terminal: Terminal = context.obj
    from app.api.wording import started_read
    from app.cli.plan_view import print_plan
    from app.core.settings import Settings
    from app.services import finetuning_service
    from app.services.studio import open_studio

    studio = open_studio(Settings())
    chosen = {"name": name, "device_id": device_id, "continue_from": continue_from, "exports": exports or [], **options}
    request = build_request(studio, terminal, dataset, model, chosen)
    with ExitStack() as until_the_end:
        # A server on the same data folder runs the job; without one, this process does.
        supervises = until_the_end.enter_context(studio.supervising())
        row = finetuning_service.finetune(studio, **request.arguments())
        started = started_read(studio, row, terminal.language)
        if not terminal.as_json:
            print_plan(terminal, started.plan)
            terminal.print()
        if detach:
            leave(studio, terminal, started.job_id, supervises)
            if terminal.as_json:
                terminal.document(started)
            return
        finish(studio, terminal, started.job_id)


def build_request(
    studio: "Studio", terminal: Terminal, dataset: str, model: str | None, options: dict[str, Any]
) -> "StartFinetuningRequest":
    """Return the same request as the API's, importing `dataset` first when it is a file."""
    from app.api.schemas.plans import StartFinetuningRequest

    # Checked before anything is imported: a refused number must not leave a data set behind.
    chosen = model or continued_model(studio, options.get("continue_from")) or preselected(studio, terminal)
    request = StartFinetuningRequest(dataset_id=dataset, model_name=chosen, **options)
    from app.cli.datasets import find_or_import

    return request.model_copy(update={"dataset_id": find_or_import(studio, dataset, terminal)})


def continued_model(studio: "Studio", job_id: str | None) -> str | None:
    """Return the model of the job that is continued, if one is."""
    if job_id is None:
        return None
    from app.services import job_service

    with studio.database.reading() as session:
        return job_service.get_job(session, job_id).model_id


def preselected(studio: "Studio", terminal: Terminal) -> str:
    """Return the model that the page would choose at first."""
    from app.services import planning_service

    entries = planning_service.available(studio, terminal.language)
    return next((entry.id for entry in entries if entry.preselected), entries[0].id)


def leave(studio: "Studio", terminal: Terminal, job_id: str, supervises: bool) -> None:
    """Let a job go on alone. Without a server, wait until its trainer is there: from then on it needs nobody."""
    from app.services import job_service

    if supervises:
        for event in job_service.follow(studio, job_id):
            if event.kind in ("phase_started", "job_failed") or (event.kind == "status_changed" and event.status == "running"):
                break
    terminal.print(terminal.say("detached", job_id=job_id))


def finish(studio: "Studio", terminal: Terminal, job_id: str) -> None:
    """Watch a job to its end and show what came of it; exit with 1 unless it succeeded."""
    from app.api.report_wording import report_read
    from app.api.wording import job_detail
    from app.cli.watch import watch
    from app.services import job_service

    if not watch(studio, terminal, job_id):
        return
    with studio.database.reading() as session:
        detail = job_detail(studio, session, job_service.get_job(session, job_id), terminal.language)
    folder = studio.job_dir(job_id)
    trained = folder.find_report()
    report = report_read(trained, folder.find_comparison(), terminal.language) if trained else None
    if terminal.as_json:
        terminal.document({"job": detail, "report": report})
    else:
        print_result(terminal, detail, report)
    if detail.status != "succeeded":
        raise typer.Exit(1)


def print_result(terminal: Terminal, detail: "JobDetail", report: "ReportRead | None") -> None:
    """Print how a job ended: the loss before and after, where the adapter is, what to do next; or the failure."""
    if detail.error is not None:
        terminal.report(detail.error.code, detail.error.message, detail.error.hint)
        return
    if detail.status != "succeeded":
        terminal.print(terminal.say("job_cancelled", job_id=detail.job_id))
        return
    if report is not None:
        terminal.print(f"[green]✓[/] {report.summary}")
        print_comparison(terminal, report)
    terminal.print(f"  [dim]{terminal.say('adapter_at', path=detail.adapter_path)}[/]")
    terminal.print(f"  [dim]{terminal.say('try_it')}[/] affinage chat {detail.job_id}")
