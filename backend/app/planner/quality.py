"""How good a model is before it is tuned: one published number per model, HellaSwag of the pre-trained weights.

HellaSwag (Zellers et al. 2019, arXiv 1905.07830) asks which of four sentences continues a text; a guess gets 25 %. It is
the one benchmark whose publishers report for 80 million parameters and for 8 billion alike, and on which the small ones
are above chance. It says nothing of languages other than English, of code or of reasoning. Settings differ (0 or 10
examples), by a point or so on the models for which both were published: smaller differences mean nothing.

A model without a published number gets one by rule, marked as derived: a straight line in log(parameters) through the
two nearest published models of its family, else the line through all of them, never above the best published one.
"""

import math
from dataclasses import dataclass
from functools import cache

from app.contracts.plan import ModelShape, Notice
from app.planner.shapes import find_shape, name_shape

CHANCE = 25.0
"""Percent that a guess gets."""

_LEADERBOARD = "Open LLM Leaderboard v1, 10-shot"
_SMOLLM2 = "SmolLM2 model cards, 0-shot"
_SMOLLM3 = "SmolLM3 model card, 0-shot"
_GEMMA = "Gemma 3 model card, 10-shot"
_MISTRAL = "Mistral 7B paper (arXiv 2310.06825), table 2"

PUBLISHED: dict[str, tuple[float, str]] = {
    "gpt2": (31.53, _LEADERBOARD),
    "gpt2-large": (45.62, _LEADERBOARD),
    "gpt2-xl": (50.89, "EleutherAI harness, as quoted in build-nanogpt's hellaswag.py"),
    "HuggingFaceTB/SmolLM2-135M": (42.1, _SMOLLM2),
    "HuggingFaceTB/SmolLM2-360M": (54.5, _SMOLLM2),
    "HuggingFaceTB/SmolLM2-1.7B": (68.7, _SMOLLM2),
    "Qwen/Qwen2.5-0.5B": (51.2, _SMOLLM2),
    "Qwen/Qwen2.5-1.5B": (66.4, _SMOLLM2),
    "Qwen/Qwen2.5-3B": (74.19, _SMOLLM3),
    "Qwen/Qwen3-1.7B": (60.52, _SMOLLM3),
    "Qwen/Qwen3-4B": (74.37, _SMOLLM3),
    "meta-llama/Llama-3.2-1B": (61.2, _SMOLLM2),
    "meta-llama/Llama-3.2-3B": (75.52, _SMOLLM3),
    "meta-llama/Llama-2-7b-hf": (77.1, _MISTRAL),
    "mistralai/Mistral-7B-v0.3": (81.3, f"{_MISTRAL}, for version 0.1"),
    "google/gemma-3-270m": (40.9, _GEMMA),
    "google/gemma-3-1b": (62.3, _GEMMA),
    "google/gemma-3-4b": (77.2, _GEMMA),
    "TinyLlama/TinyLlama-1.1B": (59.2, "TinyLlama's repository, 3T checkpoint"),
}
"""Name in `planner/shapes.py` -> percent, source."""

_FAMILIES = ("gpt2", "HuggingFaceTB/SmolLM2", "Qwen/Qwen2.5", "Qwen/Qwen3", "meta-llama/Llama-3", "google/gemma-3")
"""Beginnings of names whose models were trained alike."""


@dataclass(frozen=True, slots=True)
class Quality:
    """A number to compare models by, in percent."""

    score: float
    source: Notice
    """Where it comes from: `quality.published` with its source, or `quality.derived`."""

    @property
    def derived(self) -> bool:
        """Whether the number comes from the rule instead of a publication."""
        return self.source.key == "quality.derived"


def rate_quality(model_id: str, shape: ModelShape | None, params: float = 1e9) -> Quality:
    """Return the quality of a model; `params` counts only where the shape is unknown."""
    name = name_shape(model_id)
    if name is not None and name in PUBLISHED:
        score, source = PUBLISHED[name]
        return Quality(score, Notice(key="quality.published", params={"source": source}))
    family = next((start for start in _FAMILIES if (name or model_id).startswith(start)), None)
    if name == "distilgpt2":
        family = "gpt2"
    score = _derive(math.log(shape.params if shape else params), family)
    return Quality(round(score, 1), Notice(key="quality.derived"))


def _derive(log_params: float, family: str | None) -> float:
    """Return the score that the line through the family's two nearest members gives, else the line through all."""
    kin = [point for name, point in _points().items() if family and name.startswith(family)]
    if len(kin) >= 2:
        (x1, y1), (x2, y2) = sorted(sorted(kin, key=lambda point: abs(point[0] - log_params))[:2])
        score = y1 + (y2 - y1) * (log_params - x1) / (x2 - x1)
    else:
        points = list(_points().values())
        middle_x, middle_y = (sum(values) / len(points) for values in zip(*points, strict=True))
        slope = sum((x - middle_x) * (y - middle_y) for x, y in points) / sum((x - middle_x) ** 2 for x, _ in points)
        score = middle_y + slope * (log_params - middle_x)
    return min(max(score, CHANCE), max(score for score, _ in PUBLISHED.values()))


@cache
def _points() -> dict[str, tuple[float, float]]:
    """Return (log of parameters, score) of each published model."""
    found = {}
    for name, (score, _) in PUBLISHED.items():
        shape = find_shape(name)
        assert shape is not None, name
        found[name] = (math.log(shape.params), score)
    return found
