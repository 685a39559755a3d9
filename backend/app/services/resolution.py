"""From a few chosen numbers to every number: who decides a value, and where it comes from.

The user's value wins, then the preset's, then the model's, then the default. The planner acts on the result (planner/fit.py).
"""

from typing import Any

from pydantic import ValidationError

from app.contracts.options import DEFAULT_NUM_EPOCHS, OPTION_NAMES, FinetuningOptions
from app.contracts.plan import ModelShape, Origin, Resolved
from app.core.errors import Invalid
from app.core.validation import refuse_values
from app.planner.shapes import find_linears
from app.services.model_entry import ModelEntry

DEFAULTS: dict[str, Any] = {
    "objective": "balanced",
    "method": None,
    "beta": 0.1,
    "num_epochs": DEFAULT_NUM_EPOCHS,
    "long_rows": "truncate",
    "lora_dropout": 0.0,
    "use_rslora": False,
    "use_dora": False,
    "weight_decay": 0.0,
    "warmup_ratio": 0.03,
    "lr_scheduler": "cosine",
    "max_grad_norm": 1.0,
    "keep_best": True,
    "early_stopping": 2,
    "report_rows": 32,
    "seed": 42,
    "dtype": None,
    "gradient_checkpointing": None,
}
"""Options that no model entry sets; None = the planner chooses, and the arrangement of the rows their method."""
MODEL_VALUES = (
    "batch_size",
    "gradient_accumulation_steps",
    "max_length",
    "learning_rate",
    "lora_rank",
    "lora_alpha",
    "target_modules",
    "quantization",
)
"""Options that a model entry sets, under the same names."""


def read_options(**options: Any) -> FinetuningOptions:
    """Return the options after checking every range. Raise Invalid with one detail a field."""
    try:
        return FinetuningOptions(**options)
    except ValidationError as error:
        raise refuse_values(error) from error


def resolve_values(options: FinetuningOptions, model: ModelEntry, preset: FinetuningOptions | None = None) -> dict[str, Resolved]:
    """Return every option with its value and who decided it."""
    values: dict[str, Resolved] = {}
    for name in OPTION_NAMES:
        origin: Origin
        if preset is not None and (automatic := getattr(preset, name)) is not None:
            origin = "preset"
        elif name in MODEL_VALUES:
            automatic, origin = getattr(model, name), "model"
        else:
            automatic, origin = DEFAULTS[name], "default"
        chosen = getattr(options, name)
        if chosen is not None:
            values[name] = Resolved(value=chosen, origin="user", automatic=automatic)
        else:
            values[name] = Resolved(value=automatic, origin=origin, automatic=automatic)
    return values


def check_target_modules(targets: list[str], shape: ModelShape | None) -> None:
    """Raise Invalid for a layer name that a model of a known kind does not have; others are the engine's to judge."""
    if shape is None or shape.family == "other":
        return
    known = find_linears(shape)
    for target in targets:
        if target.rsplit(".", 1)[-1] not in known:
            available = ", ".join(known)
            detail = {
                "field": "target_modules",
                "code": "unknown_layer",
                "key": "invalid.target_modules",
                "params": {"target": target, "available": available},
            }
            raise Invalid("target_modules", [detail], target=target, available=available)
