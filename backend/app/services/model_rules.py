"""A configuration for a model that is not in the catalogue, computed from its sizes by stated rules.

The rules follow the catalogue's own entries: 16 rows per step, rank 16 on all linear layers, a learning rate and stars by
number of parameters, the memory that the planner predicts for these values.
"""

import math

from app.contracts.hardware import Device
from app.contracts.options import FinetuningOptions
from app.contracts.plan import ModelShape
from app.core.messages import Language, localise
from app.core.units import GIB
from app.planner.fit import PlanRequest, make_plan
from app.planner.run_shape import RowLengths
from app.services.model_entry import ModelEntry
from app.services.resolution import resolve_values

EFFECTIVE_ROWS = 16
USUAL_LENGTH = 512
_Q_TO_DOWN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
_FUSED_QKV = ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]
LAYERS_BY_TYPE: dict[str, list[str]] = {
    "gpt2": ["c_attn", "c_proj", "c_fc"],
    "phi": ["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"],
    "phi3": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
    "gpt_neox": _FUSED_QKV,
    "falcon": _FUSED_QKV,
    "bloom": _FUSED_QKV,
    "gpt_neo": ["q_proj", "k_proj", "v_proj", "out_proj", "c_fc", "c_proj"],
    "opt": ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"],
    "starcoder2": ["q_proj", "k_proj", "v_proj", "o_proj", "c_fc", "c_proj"],
}
"""`model_type` in config.json -> names of its linear layers in transformers (a test asks the architectures)."""
LIKE_LLAMA = frozenset(
    (
        "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "gemma3_text", "smollm3", "granite", "olmo", "olmo2",
        "cohere",
    )
)  # fmt: skip
"""Types whose layers are named like a Llama's."""

# parameters up to -> rows at a time, learning rate, stars for quality and speed
_BY_SIZE: list[tuple[float, int, float, int, int]] = [
    (0.2e9, 8, 1e-3, 2, 5),
    (0.6e9, 8, 5e-4, 3, 4),
    (1.3e9, 4, 2e-4, 3, 4),
    (2.0e9, 2, 2e-4, 4, 3),
    (4.0e9, 1, 2e-4, 4, 2),
    (7.6e9, 1, 1e-4, 5, 2),
    (math.inf, 1, 1e-4, 5, 1),
]


def find_layers(model_type: str) -> list[str] | None:
    """Return the linear layers of a type that is known by name, None for any other."""
    known = _Q_TO_DOWN if model_type in LIKE_LLAMA else LAYERS_BY_TYPE.get(model_type)
    return None if known is None else list(known)


def compute_model(
    model_id: str, shape: ModelShape, model_type: str, target_modules: list[str] | None = None
) -> ModelEntry:  # fmt: skip
    """Return the configuration of a model with these sizes.

    `target_modules` are its linear layers where its type is not known by name; without them a Llama's are taken.
    """
    _, rows, rate, quality, speed = next(row for row in _BY_SIZE if shape.params <= row[0])
    model = ModelEntry(
        name=model_id,
        display_name=model_id.rstrip("/").rsplit("/", 1)[-1],
        batch_size=rows,
        max_length=min(USUAL_LENGTH, shape.context),
        lora_rank=16,
        lora_alpha=32,
        gradient_accumulation_steps=EFFECTIVE_ROWS // rows,
        learning_rate=rate,
        target_modules=find_layers(model_type) or target_modules or list(_Q_TO_DOWN),
        vram_required_gb=1.0,
        quality_rating=quality,
        speed_rating=speed,
        description=localise("model_computed", "en", size=_write_size(shape.params, "en"))[0],
        description_fr=localise("model_computed", "fr", size=_write_size(shape.params, "fr"))[0],
    )
    model.vram_required_gb = compute_vram_gb(model, shape)
    return model


def _write_size(params: int, language: Language) -> str:
    """Return a number of parameters as publishers write it: 135M, 1.7B; in French 135 M, 1,7 Md."""
    billions, millions = (" Md", " M") if language == "fr" else ("B", "M")
    text = f"{params / 1e9:.1f}{billions}" if params >= 1e9 else f"{params / 1e6:.0f}{millions}"
    return text.replace(".", ",") if language == "fr" else text


def compute_vram_gb(model: ModelEntry, shape: ModelShape) -> float:
    """Return the least memory of a card, in halves of 2**30 bytes, in which one row at a time fits."""
    largest = Device(
        id="cuda:0", kind="cuda", name="any card", memory_total_bytes=1 << 50, memory_free_bytes=1 << 50, bf16=True,
        compute_capability=(8, 0),
    )  # fmt: skip
    options = FinetuningOptions(
        batch_size=1, gradient_accumulation_steps=EFFECTIVE_ROWS, gradient_checkpointing=shape.params > 1e9
    )
    plan = make_plan(
        PlanRequest(
            model_id=model.name,
            model_name=model.display_name,
            shape=shape,
            vram_required_gb=1.0,
            device=largest,
            available_bytes=largest.memory_free_bytes,
            values=resolve_values(options, model),
            lengths=RowLengths((model.max_length,) * 21, measured=True),
            train_rows=EFFECTIVE_ROWS,
            heldout_rows=0,
            nf4_usable=True,
        )
    )
    return math.ceil(2 * plan.peak_bytes / GIB) / 2
