"""The recommendation: the specification's hardware table holds, dominated models are marked, the order follows the objective."""

from functools import cache

import pytest

from app.contracts.hardware import Device
from app.contracts.options import FinetuningOptions, Objective
from app.core.messages import LANGUAGES, localise
from app.planner.fit import PlanRequest, make_plan
from app.planner.quality import CHANCE, PUBLISHED, rate_quality
from app.planner.recommend import Contender, Recommendation, imagine_card, list_specified, recommend
from app.planner.run_shape import RowLengths
from app.planner.shapes import SHAPES, find_shape
from app.services.finetuning_service import MODEL_CONFIGS
from app.services.resolution import resolve_values
from tests.unit.planner.test_fit import device

SPECIFICATION = {
    2: {"distilgpt2", "gpt2"},
    4: {"gpt2", "gpt2-medium"},
    6: {"gpt2-medium", "gpt2-large"},
    8: {"gpt2-large"},
    12: {"meta-llama/Llama-2-7b-hf", "mistralai/Mistral-7B-v0.3"},
}


@cache
def ranking(gigabytes: float, objective: Objective = "balanced", kind: str = "cuda", length: int = 512) -> list[Recommendation]:
    where = imagine_card(gigabytes) if kind == "cuda" else device(gigabytes, "cpu")
    return recommend([contend(model_id, where, objective, length) for model_id in MODEL_CONFIGS], objective, where)


def contend(model_id: str, where: Device, objective: Objective, length: int) -> Contender:
    entry, shape = MODEL_CONFIGS[model_id], find_shape(model_id)
    request = PlanRequest(
        model_id=model_id,
        model_name=entry.display_name,
        shape=shape,
        vram_required_gb=entry.vram_required_gb,
        device=where,
        available_bytes=where.memory_free_bytes,
        values=resolve_values(FinetuningOptions(objective=objective), entry),
        lengths=RowLengths((length,) * 21, measured=True),
        train_rows=1000,
        heldout_rows=100,
        nf4_usable=True,
    )
    return Contender(model_id, entry.display_name, make_plan(request, explore=False), rate_quality(model_id, shape))


@pytest.mark.parametrize("objective", ["speed", "balanced", "quality"])
@pytest.mark.parametrize("gigabytes", SPECIFICATION)
def test_the_models_of_the_hardware_table_are_recommended_for_their_memory(gigabytes: int, objective: Objective) -> None:
    recommended = {found.contender.model_id for found in ranking(gigabytes, objective) if found.recommended}
    assert recommended >= SPECIFICATION[gigabytes]


@pytest.mark.parametrize("gigabytes", [2, 4, 6, 8, 12, 24])
def test_what_is_recommended_fits_with_its_bound_and_the_rest_is_listed_with_its_reason(gigabytes: int) -> None:
    found = ranking(gigabytes)
    assert {entry.contender.model_id for entry in found} == set(MODEL_CONFIGS)
    assert [entry.rank for entry in found] == list(range(1, len(found) + 1))
    for entry in found:
        if entry.recommended:
            assert entry.contender.plan.peak_bytes_upper <= gigabytes * 2**30
        if entry.dominated_by:
            other = next(one.contender for one in found if one.contender.model_id == entry.dominated_by)
            assert other.plan.seconds_p50 <= entry.contender.plan.seconds_p50
            assert other.quality.score >= entry.contender.quality.score
    assert found[0].recommended
    assert found[0].dominated_by is None


def test_specified_models_stay_listed_when_dominated_and_say_so() -> None:
    large = next(entry for entry in ranking(8) if entry.contender.model_id == "gpt2-large")
    assert large.recommended
    assert large.dominated_by is not None
    assert large.reason.key == "recommendation.specified"


def test_speed_begins_with_the_quickest_and_quality_with_the_best() -> None:
    fast, good = ranking(12, "speed"), ranking(12, "quality")
    fitting = [entry.contender for entry in fast if entry.contender.plan.verdict == "fits"]
    assert fast[0].contender.plan.seconds_p50 == min(contender.plan.seconds_p50 for contender in fitting)
    assert good[0].contender.quality.score == max(
        entry.contender.quality.score for entry in good if entry.contender.plan.verdict == "fits"
    )
    assert fast[0].contender.model_id != good[0].contender.model_id


def test_twelve_gigabytes_hold_llama_and_mistral_in_four_bits() -> None:
    plans = {entry.contender.model_id: entry.contender.plan for entry in ranking(12)}
    for model_id in SPECIFICATION[12]:
        assert plans[model_id].resolved["quantization"].value == "nf4"
        assert plans[model_id].verdict == "fits"


def test_a_processor_gets_a_ranking_without_the_table_of_cards() -> None:
    found = ranking(16, kind="cpu")
    assert list_specified(device(16, "cpu")) == ()
    assert {entry.recommended for entry in found} == {True, False}
    assert all(entry.dominated_by is None for entry in found if entry.recommended)


def test_a_card_sold_as_6_gb_counts_as_one_although_it_shows_a_little_less() -> None:
    assert list_specified(imagine_card(5.9)) == ("gpt2-medium", "gpt2-large")
    assert list_specified(imagine_card(5.0)) == ("gpt2", "gpt2-medium")
    assert list_specified(imagine_card(1.0)) == ()


def test_an_imagined_card_keeps_the_machine_s_own_kind() -> None:
    card = imagine_card(6, device(24, name="Tesla T4", capability=(7, 5)))
    assert (card.name, card.compute_capability, card.memory_total_bytes) == ("Tesla T4", (7, 5), 6 * 2**30)


def test_reasons_and_sources_read_well_in_both_languages() -> None:
    for entry in (*ranking(4), *ranking(12, "quality"), *ranking(12, "speed")):
        for notice in (entry.reason, entry.contender.quality.source):
            for language in LANGUAGES:
                sentence, _ = localise(notice.key, language, **notice.params)
                assert sentence
                assert "{" not in sentence
        compared = entry.reason.params
        assert compared.get("other_quality") == (round(compared["other_quality"], 1) if "other_quality" in compared else None)


@pytest.mark.parametrize("model_id", MODEL_CONFIGS)
def test_every_model_has_a_quality_with_its_source(model_id: str) -> None:
    quality = rate_quality(model_id, find_shape(model_id))
    assert CHANCE <= quality.score <= 90
    assert quality.derived != (quality.source.key == "quality.published")


def test_published_qualities_belong_to_known_models_and_derived_ones_lie_between_their_kin() -> None:
    assert set(PUBLISHED) <= set(SHAPES)
    medium = rate_quality("gpt2-medium", find_shape("gpt2-medium"))
    assert medium.derived
    assert PUBLISHED["gpt2"][0] < medium.score < PUBLISHED["gpt2-large"][0]
    assert CHANCE < rate_quality("distilgpt2", find_shape("distilgpt2")).score < PUBLISHED["gpt2"][0]
    assert rate_quality("someone/unheard-of", None, 7e9).score > rate_quality("someone/unheard-of", None, 1e8).score
