"""A job as what starts the same job again: a file, a command line, an HTTP call, lines of Python. Every value written out."""

import json
import pprint
import shlex
from collections.abc import Mapping

from app.contracts.job import TrainingJob
from app.contracts.options import DEFAULT_NUM_EPOCHS, OPTION_NAMES
from app.core.settings import Settings

_PYTHON = """\
from app.core.settings import Settings
from app.services.finetuning_service import finetune
from app.services.job_service import follow
from app.services.studio import open_studio

request = {request}

studio = open_studio(Settings())
with studio.supervising():  # a server on the same data folder runs the job; without one, this process does
    job = finetune(studio, **request)
    for event in follow(studio, job.job_id):
        print(event.model_dump_json())
"""


def make_request(job: TrainingJob) -> dict[str, object]:
    """Return the body of POST /api/start-finetuning that makes the same job."""
    values = {name: job.plan.resolved[name].value for name in OPTION_NAMES if name in job.plan.resolved}
    values = {"num_epochs": DEFAULT_NUM_EPOCHS, **{name: value for name, value in values.items() if value is not None}}
    body: dict[str, object] = {"dataset_id": job.dataset.dataset_id, "model_name": job.model.model_id, **values}
    if job.continue_from is not None:
        body["continue_from"] = job.continue_from
    if job.exports:
        body["exports"] = list(job.exports)
    return body


def make_commands(job: TrainingJob, settings: Settings) -> dict[str, str]:
    """Return `config` (a file for `affinage jobs start`), `cli`, `curl` and `python`; each starts the same job again."""
    body = make_request(job)
    return {
        "config": json.dumps(body, ensure_ascii=False, indent=2),
        "cli": _command_line(body),
        "curl": _curl(body, settings),
        "python": _PYTHON.format(request=pprint.pformat(body, sort_dicts=False, width=100)),
    }


def _command_line(body: Mapping[str, object]) -> str:
    arguments = ["affinage", "finetune", str(body["dataset_id"]), "--model", str(body["model_name"])]
    for name, value in body.items():
        if name not in ("dataset_id", "model_name"):
            arguments += _flag(name, value)
    return shlex.join(arguments)


def _curl(body: Mapping[str, object], settings: Settings) -> str:
    call = f"curl -X POST http://localhost:{settings.port}/api/start-finetuning -H 'Content-Type: application/json' "
    if settings.require_token:
        call += '-H "Authorization: Bearer $AFFINAGE_TOKEN" '
    return call + "-d " + shlex.quote(json.dumps(body, ensure_ascii=False))


def _flag(name: str, value: object) -> list[str]:
    flag = "--" + name.replace("_", "-")
    match value:
        case bool():
            return [flag if value else "--no-" + flag[2:]]
        case list():
            return [part for item in value for part in (flag, str(item))]
        case _:
            return [flag, str(value)]
