"""Models outside the catalogue: added by a person, or named once; configured from config.json alone, before any weight moves."""

import json
import re
from pathlib import Path
from typing import Any

from app.contracts.plan import ModelShape
from app.contracts.trace import Linears
from app.core.errors import Conflict, ModelUnavailable, NotFound, Unsupported
from app.planner.shapes import shape_from_config
from app.services.model_rules import compute_model
from app.services.run_plan import FoundModel
from app.services.studio import Studio
from app.storage.added_models import AddedModel
from app.storage.hub import hub_endpoint
from app.storage.hub_config import fetch_config
from app.storage.job_dir import utc_now
from app.storage.model_store import is_folder_id
from app.storage.repositories import Jobs
from app.storage.tables import JobRow

PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
"""Types and architectures name classes; anything else has become source code in other programs (CVE-2026-93348)."""


def get_outside_model(studio: Studio, model_name: str) -> FoundModel:
    """Return a model that is not in the catalogue, its configuration computed from config.json.

    Raise NotFound for a name that is neither a hub id (`org/name`) nor a folder, or that the hub does not know;
    HubUnreachable, ModelUnavailable, Forbidden or Unsupported as the model store and the reader of config.json do.
    """
    added = studio.added.find(model_name)
    if added is not None:
        return open_added(studio, added, ask=True)
    return configure(studio, model_name, read_outside_config(studio, model_name)[0], ask=True)


def list_added(studio: Studio) -> list[FoundModel]:
    """Return the models that were added, oldest first."""
    return [open_added(studio, added) for added in studio.added.list()]


def open_added(studio: Studio, added: AddedModel, *, ask: bool = False) -> FoundModel:
    """Return an added model, from its config.json as it is on this machine now, else as it was when it was added."""
    try:
        config = studio.models.read_config(added.model_id) or json.loads(added.config)
        return configure(studio, added.model_id, config, ask=ask)
    except Unsupported:  # the folder's file was changed since, to something that is no model
        return configure(studio, added.model_id, json.loads(added.config), ask=ask)


def add_model(studio: Studio, name: str) -> FoundModel:
    """Add a hub id or a folder to the list of models. Raise Conflict when it is there, and as `get_outside_model`."""
    model_id = clean_name(name)
    if studio.added.find(model_id) is not None:
        raise Conflict("already_added", model_id=model_id)
    config, commit = read_outside_config(studio, model_id)
    found = configure(studio, model_id, config, ask=True)
    studio.added.put(
        AddedModel(
            model_id=model_id,
            added_at=utc_now(),
            commit=commit,
            config=json.dumps(config, ensure_ascii=False),
        )
    )
    return found


def remove_model(studio: Studio, model_id: str) -> None:
    """Take an added model off the list; its weights stay where they are.

    Raise NotFound, and Conflict while a job that has not ended uses it.
    """
    names = (model_id, f"/{model_id}")  # a proxy may have merged the two slashes before the path of a folder
    listed = next((name for name in names if studio.added.find(name) is not None), None)
    if listed is None:
        raise NotFound("added_model", model_id=model_id)
    with studio.database.writing() as session:
        user = Jobs(session).find_user(JobRow.model_id == listed)
        if user is not None:
            raise Conflict("model_in_use", job_id=user.job_id, status=user.status)
        studio.added.delete(listed)


def clean_name(name: str) -> str:
    """Return a name as it is kept: without spaces around it, the hub's address before it, a slash after a folder."""
    text = name.strip().removeprefix(f"{hub_endpoint()}/")
    return str(Path(text).expanduser()) if is_folder_id(text) else text


def read_outside_config(studio: Studio, model_name: str) -> tuple[dict[str, Any], str]:
    """Return config.json and the commit (empty for a folder). Raise as `get_outside_model`."""
    if is_folder_id(model_name):
        return studio.models.read_folder_config(model_name), ""
    if "/" not in model_name:
        raise NotFound("model", model_id=model_name)
    try:
        source = studio.models.resolve(model_name)
    except ModelUnavailable as error:
        if error.key in {"model_unavailable.unknown", "model_unavailable.invalid_id"}:
            raise NotFound("model", model_id=model_name) from error
        raise
    return studio.models.read_config(model_name) or fetch_config(model_name, source.commit), source.commit


def configure(studio: Studio, model_id: str, config: dict[str, Any], *, ask: bool = False) -> FoundModel:
    """Return the model that a config.json describes. Raise Unsupported naming the field that is missing or wrong.

    What a type without formulas holds (layers, every parameter) is asked of the architecture itself: with `ask` of the trace
    worker, which takes seconds, else where it was asked before.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not PLAIN_NAME.fullmatch(model_type):
        raise Unsupported("model_config", field="model_type")
    check_is_decoder(model_id, config)
    try:
        shape: ModelShape = shape_from_config(config)
    except Unsupported:
        if ask and isinstance(config.get("text_config"), dict):  # such parts leave out what is usual for their type
            _ask_architecture(studio, model_id, config)
        raise
    if shape.family != "other" and not isinstance(config.get("text_config"), dict):
        return FoundModel(model_id, compute_model(model_id, shape, model_type), shape, config)
    held = _ask_architecture(studio, model_id, config) if ask else studio.tracing.find_linears(config)
    if held is not None:
        shape = shape.model_copy(update={"params": held.params, "matrix_weights": held.matrix_weights})
    return FoundModel(model_id, compute_model(model_id, shape, model_type, held.names if held else None), shape, config)


def _ask_architecture(studio: Studio, model_id: str, config: dict[str, Any]) -> Linears | None:
    """Return what the model holds, None where nobody can tell. Raise Unsupported for one that does not continue text."""
    answer = studio.tracing.list_linears(config)
    if isinstance(answer, Linears):
        return answer
    if answer.key == "unsupported.not_a_decoder":
        raise Unsupported("not_a_decoder", model_id=model_id, architecture=answer.params["architecture"])
    return None


def check_is_decoder(model_id: str, config: dict[str, Any]) -> None:
    """Raise Unsupported for a model that states that it does not continue text: an encoder, a translator, a classifier."""
    architectures = config.get("architectures")
    stated = [name for name in architectures if isinstance(name, str)] if isinstance(architectures, list) else []
    if not all(PLAIN_NAME.fullmatch(name) for name in stated):
        raise Unsupported("model_config", field="architectures")
    continues = not stated or any(name.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for name in stated)
    if config.get("is_encoder_decoder") is True or not continues:
        raise Unsupported("not_a_decoder", model_id=model_id, architecture=", ".join(stated) or str(config.get("model_type")))
