"""Models of one's own, and the weights of all: where they are, and bringing them here."""

from app.core.errors import Conflict, NotFound
from app.services import own_models
from app.services.downloads import Download
from app.services.finetuning_service import MODEL_CONFIGS
from app.services.run_plan import FoundModel
from app.services.studio import Studio
from app.storage.model_store import is_folder_id


def add_model(studio: Studio, name: str) -> FoundModel:
    """Add a hub id or a folder to the list of models; nothing but its config.json is read.

    Raise Conflict for a model that is listed, NotFound, HubUnreachable, ModelUnavailable, Forbidden, Unsupported.
    """
    model_id = own_models.clean_name(name)
    if any(model_id in (listed, entry.name) for listed, entry in MODEL_CONFIGS.items()):
        raise Conflict("in_catalogue", model_id=model_id)
    return own_models.add_model(studio, model_id)


def hub_name(model_id: str) -> str:
    """Return where the weights of a model come from: a catalogue entry may stand under another id than its weights."""
    entry = MODEL_CONFIGS.get(model_id)
    return entry.name if entry else model_id


def start_download(studio: Studio, model_id: str) -> Download:
    """Bring the weights of a model here in the background; at once `done` when they are here already.

    Raise NotFound, HubUnreachable, ModelUnavailable or Forbidden before anything starts.
    """
    running = studio.downloads.find(hub_name(model_id))
    if running is not None and running.state == "running":
        return running
    source = studio.models.resolve(hub_name(model_id))
    if source.ready or source.kind != "hub":
        return Download(model_id, "done")
    return studio.downloads.start(source)


def get_download(studio: Studio, model_id: str) -> Download:
    """Say how far a download has come. Raise NotFound for a model that is neither listed nor here."""
    known = studio.downloads.find(hub_name(model_id))
    if known is not None and known.state == "running":
        return known
    if studio.models.obtainable_offline(hub_name(model_id)):
        return Download(model_id, "done")
    if known is not None:
        return known
    if model_id not in MODEL_CONFIGS and (is_folder_id(model_id) or "/" not in model_id):
        raise NotFound("model", model_id=model_id)
    return Download(model_id, "idle")
