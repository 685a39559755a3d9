"""Which model to take: every listed model planned for this machine (or a card of a given size) and this data, then ranked."""

from dataclasses import dataclass

from app.contracts.hardware import Device
from app.contracts.options import FinetuningOptions, Objective
from app.contracts.plan import Plan
from app.planner.quality import rate_quality
from app.planner.recommend import Contender, Recommendation, imagine_card, recommend
from app.planner.run_shape import RowLengths
from app.services.dataset_service import get_dir
from app.services.learning_method import explain_time
from app.services.planning_service import EXAMPLE_ROWS, Weights, find_weights, list_models
from app.services.resolution import resolve_values
from app.services.row_lengths import find_counts, measure_lengths
from app.services.run_plan import FoundModel, count_available, find_config, make_plan_request, settle_for_rows
from app.services.studio import Studio
from app.services.tokenizer_folders import find_tokenizer_folder
from app.services.traced_plan import make_known_plan

TYPICAL_PARAMS_PER_GB = 0.4e9
"""Parameters of a model of unknown shape by its stated memory: 16 bits, and a little for the rest."""


@dataclass(frozen=True)
class RankedModel:
    """One model with its place."""

    model: FoundModel
    place: Recommendation
    weights: Weights

    @property
    def plan(self) -> Plan:
        """How it would be trained."""
        return self.place.contender.plan


@dataclass(frozen=True)
class Ranking:
    """All models, the best first, and what they were judged by."""

    objective: Objective
    device: Device
    memory_bytes: int
    """What a job may use there."""
    dataset_id: str | None
    train_rows: int
    models: list[RankedModel]


def rank_models(
    studio: Studio, *, vram_gb: float | None = None, dataset_id: str | None = None, objective: Objective | None = None
) -> Ranking:
    """Return the catalogue and the added models in the order of preference. Raise NotFound for an unknown data set.

    `vram_gb` asks for a card of so many 2**30 bytes, CUDA context included; without it this machine's best device counts.
    Without a data set, EXAMPLE_ROWS rows that fill each model's max_length are assumed.
    """
    aim: Objective = objective or "balanced"
    best = studio.hardware().best
    device = best if vram_gb is None else imagine_card(vram_gb, best)
    memory = count_available(best) if vram_gb is None else device.memory_total_bytes
    models = list_models(studio)
    contenders = [
        Contender(
            model_id=model.model_id,
            name=model.entry.display_name,
            plan=_plan(studio, model, device, memory=memory, dataset_id=dataset_id, objective=aim, imagined=vram_gb is not None),
            quality=rate_quality(model.entry.name, model.shape, TYPICAL_PARAMS_PER_GB * model.entry.vram_required_gb),
        )
        for model in models
    ]
    by_id = {model.model_id: model for model in models}
    places = recommend(contenders, aim, device)
    ranked = [
        RankedModel(model, place, find_weights(studio, model.entry.name))
        for model, place in ((by_id[place.contender.model_id], place) for place in places)
    ]
    rows = contenders[0].plan.train_rows if contenders else EXAMPLE_ROWS
    return Ranking(aim, device, memory, dataset_id, rows, ranked)


def _plan(
    studio: Studio,
    model: FoundModel,
    device: Device,
    *,
    memory: int,
    dataset_id: str | None,
    objective: Objective,
    imagined: bool,
) -> Plan:
    """Return how a model would be trained. An imagined card computes with 4 bits, whatever is installed here."""
    entry = model.entry
    values = resolve_values(FinetuningOptions(objective=objective), entry)
    train_rows, heldout_rows = EXAMPLE_ROWS, 0
    lengths = RowLengths((entry.max_length,) * 21, measured=True)
    if dataset_id is not None:
        dataset = get_dir(studio, dataset_id)
        info = dataset.read_info()
        train_rows, heldout_rows = info.train_rows, info.heldout_rows
        tokenizer_folder = find_tokenizer_folder(studio, entry.name)
        values = settle_for_rows(values, info, find_counts(dataset, info, tokenizer_folder))
        lengths = measure_lengths(dataset, info, tokenizer_folder)
    request = make_plan_request(
        studio,
        model,
        device,
        values,
        lengths,
        available_bytes=memory,
        train_rows=train_rows,
        heldout_rows=heldout_rows,
        nf4_usable=True if imagined else None,
    )
    return explain_time(make_known_plan(studio.tracing, request, find_config(studio, model)))
