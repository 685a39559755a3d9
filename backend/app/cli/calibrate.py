"""`affinage calibrate`: measure how fast this machine trains; plans count with the result."""

from typing import Annotated

import typer

from app.cli.flags import JsonFlag
from app.cli.terminal import Terminal


def calibrate(
    context: typer.Context,
    device_id: Annotated[str | None, typer.Option("--device-id", help="`cpu` or `cuda:N`; automatic = the best device.")] = None,
    _json: JsonFlag = False,
) -> None:
    """Measure this machine for about half a minute, so that predicted times are its own."""
    terminal: Terminal = context.obj
    from app.api.wording import calibration_read
    from app.core.settings import Settings
    from app.services import calibration_service
    from app.services.studio import open_studio

    studio = open_studio(Settings())
    terminal.print(f"[dim]{terminal.say('calibrating')}[/]")
    answer = calibration_read(calibration_service.calibrate(studio, device_id), terminal.language)
    if terminal.as_json:
        terminal.document(answer)
        return
    from rich.markup import escape

    half = f"{answer.half_gflops:.0f} GFLOP/s" if answer.half_gflops is not None else "–"
    terminal.print(f"[bold]{escape(answer.device_name)}[/]  [dim]{answer.seconds:.0f} s[/]")
    rates = {"half": half, "full": f"{answer.full_gflops:.0f} GFLOP/s", "memory": f"{answer.bandwidth_gb:.1f} GB/s"}
    for name, shown in rates.items():
        terminal.print(f"  {terminal.say('rate_' + name):<24} {shown}")
    if answer.step_factor is not None:
        terminal.print(f"  {terminal.say('rate_step'):<24} × {answer.step_factor:.2f}")
    if answer.notice is not None:
        terminal.print()
        terminal.paragraph(f"[yellow]{escape(answer.notice.message)}[/] {escape(answer.notice.hint)}")
