"""Model names as scripts for OpenAI's service write them, and who answers to them here.

The rule, in this order:
1. `ft:MODEL:affinage:SUFFIX:JOB` is what a job has learned; `...:ckpt-step-N` behind it one of its checkpoints. A job's id
   alone means the same.
2. A model of the catalogue, of one's own list, of the hub (`org/name`) or a folder is itself.
3. A model that the upstream server lists is answered there; so is one of the hub whose weights are not here.
4. A name of OpenAI's (`gpt-...`, `o1`, `davinci-002`, ...) is answered by the model that AFFINAGE_OPENAI_MODELS gives for
   it, else by the model that comes with the installation. The answer's `model` says who spoke.
5. Any other name is not found.
"""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from sqlalchemy.orm import Session

from app.contracts.status import JobStatus
from app.core.errors import NotFound
from app.services.finetuning_service import MODEL_CONFIGS
from app.services.studio import Studio
from app.services.voices import Voice, get_job_voice, get_model_voice
from app.storage.checkpoint_dir import PREFIX
from app.storage.model_store import EMBEDDED_ID, is_folder_id
from app.storage.repositories import Jobs
from app.storage.tables import JobRow

ORGANISATION = "affinage"
OPENAI_NAME = re.compile(
    r"(gpt|chatgpt|o[1-9]|davinci|babbage|curie|ada|text-davinci|ft:gpt|ft:davinci|ft:babbage)([-.:0-9a-z].*)?"
)
CHECKPOINT = re.compile(r"ckpt-step-(\d+)")
NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Named:
    """Who answers to a name."""

    name: str
    """The name that an answer carries."""
    model_id: str | None = None
    job_id: str | None = None
    checkpoint: str | None = None


def tuned_name(model_id: str, job_id: str, suffix: str = "") -> str:
    """Return the name of what a job has learned."""
    return f"ft:{model_id}:{ORGANISATION}:{NOT_IN_NAMES.sub('-', suffix)}:{job_id}"


def checkpoint_name(tuned: str, step: int) -> str:
    """Return the name of a checkpoint of what is called `tuned`."""
    return f"{tuned}:ckpt-step-{step}"


def find_named(studio: Studio, session: Session, name: str) -> Named | None:
    """Return who answers to a name by rules 1 and 2, or None."""
    parts = name.split(":")
    checkpoint = None
    if len(parts) > 1 and (found := CHECKPOINT.fullmatch(parts[-1])):
        checkpoint = f"{PREFIX}{found[1]}"
        parts.pop()
    if (row := Jobs(session).find(parts[-1])) is not None and (len(parts) == 1 or parts[0] == "ft"):
        return Named(name, job_id=row.job_id, checkpoint=checkpoint)
    if name in MODEL_CONFIGS or studio.added.find(name) is not None or is_folder_id(name):
        return Named(name, model_id=name)
    if name.count("/") == 1 and ":" not in name:
        return Named(name, model_id=name)
    return None


def is_upstreams(studio: Studio, session: Session, name: str) -> bool:
    """Whether the upstream server answers to a name: it lists it, and no weights here have it."""
    if name not in studio.upstream.list_models():
        return False
    named = find_named(studio, session, name)
    return named is None or (named.model_id is not None and not _is_here(studio, named.model_id))


def _is_here(studio: Studio, model_id: str) -> bool:
    name = MODEL_CONFIGS[model_id].name if model_id in MODEL_CONFIGS else model_id
    return is_folder_id(model_id) or studio.models.obtainable_offline(name)


def get_named(studio: Studio, session: Session, name: str) -> Named:
    """Return who answers to a name by rules 1, 2, 4 and 5. Raise NotFound."""
    found = find_named(studio, session, name)
    if found is not None:
        return found
    if name.startswith("ft:"):
        raise NotFound("tuned_elsewhere", model_id=name)
    if OPENAI_NAME.fullmatch(name):
        stand_in = find_stand_in(studio.settings.openai_models, name)
        return find_named(studio, session, stand_in) or Named(stand_in, model_id=stand_in)
    raise NotFound("model", model_id=name)


def find_stand_in(pairs: str, name: str) -> str:
    """Return the model that answers to a name of OpenAI's."""
    for pair in pairs.split(","):
        pattern, _, model = pair.partition("=")
        if model.strip() and fnmatchcase(name, pattern.strip()):
            return model.strip()
    return EMBEDDED_ID


def get_voice(studio: Studio, session: Session, named: Named) -> Voice:
    """Return what the chat worker needs. Raise NotFound, Conflict or ModelUnavailable."""
    if named.job_id is not None:
        return get_job_voice(studio, session, named.job_id, named.checkpoint)
    return get_model_voice(studio, named.model_id or "")


def list_ready_models(studio: Studio) -> list[str]:
    """Return the models whose weights are on this machine."""
    names = [*MODEL_CONFIGS, *(added.model_id for added in studio.added.list())]
    return [name for name in names if _is_here(studio, name)]


def list_tuned(session: Session, most: int = 200) -> list[JobRow]:
    """Return the jobs that have left a model, newest first."""
    return list(Jobs(session).page(most, None, JobStatus.SUCCEEDED))
