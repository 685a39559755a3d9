"""The catalogue of models, and the start of a fine-tuning job.

To add a model, paste an entry into MODEL_CONFIGS and restart: the 13 fields of the specification are enough. Everything
after them has a default. The sizes that the planner needs are looked up by `name`, in `planner/shapes.py` or in the
model's own config.json; a model with neither still gets a rough plan from `vram_required_gb`.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from app.contracts.export import ExportFormat
from app.contracts.job import DatasetSource, Lora, ModelSource, Optimization, ResumeFrom, TrainingJob
from app.contracts.options import Dtype, LongRows, Method, Objective, Quantization, Scheduler
from app.core.errors import DatasetInvalid
from app.datasets.token_checks import refuse_failed
from app.services import job_control, job_service
from app.services.export_offers import check_exports
from app.services.model_entry import ModelEntry
from app.services.own_models import get_outside_model
from app.services.run_plan import FoundModel, PlannedRun, find_catalogue_shape, plan_run
from app.services.studio import Studio
from app.services.system_service import versions
from app.storage.job_dir import utc_now
from app.storage.tables import JobRow

CHECKPOINT_SECONDS = 300.0
"""A killed run loses at most so much work."""


@dataclass
class ModelConfig(ModelEntry):
    """One model of the catalogue: the specification's 13 fields in its order; optional ones follow (model_entry.py)."""

    name: str
    display_name: str
    batch_size: int
    max_length: int
    lora_rank: int
    lora_alpha: int
    gradient_accumulation_steps: int
    learning_rate: float
    target_modules: list[str]
    vram_required_gb: float
    quality_rating: int
    speed_rating: int
    description: str


# All linear layers of a block get an adapter: that closes most of the gap to full fine-tuning (Dettmers et al. 2023,
# arXiv 2305.14314, figure 2). In GPT-2 `c_proj` names two layers, the attention's output and the MLP's.
GPT2_LAYERS = ["c_attn", "c_proj", "c_fc"]
LLAMA_LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PHI_LAYERS = ["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"]

# VRAM, stars, batch size, learning rate and length of the first four: the owner's specification. batch_size x
# gradient_accumulation_steps is 16 rows nearly everywhere, alpha twice the rank. VRAM of the others: at least this
# planner's peak for the entry's own values; a plan for such a card fits with its bound (tests/unit/catalogue holds
# both). Licences and gating: shared/research/planner.md.
MODEL_CONFIGS: dict[str, ModelConfig] = {
    "distilgpt2": ModelConfig(
        name="distilgpt2", display_name="DistilGPT-2 (82M)",
        batch_size=16, max_length=512, lora_rank=16, lora_alpha=32, gradient_accumulation_steps=1, learning_rate=5e-4,
        target_modules=GPT2_LAYERS, vram_required_gb=1.5, quality_rating=2, speed_rating=5,
        description="Quick tests, very limited hardware, experiments.",
        description_fr="Tests rapides, hardware très limité, expérimentations.",
        licence="apache-2.0",
    ),
    "gpt2": ModelConfig(
        name="gpt2", display_name="GPT-2 (124M)",
        batch_size=8, max_length=512, lora_rank=16, lora_alpha=32, gradient_accumulation_steps=2, learning_rate=3e-4,
        target_modules=GPT2_LAYERS, vram_required_gb=2.0, quality_rating=2, speed_rating=5,
        description="Default model, a good compromise, average hardware.",
        description_fr="Modèle par défaut, bon compromis, hardware moyen.",
        licence="mit", is_default=True,
    ),
    "gpt2-medium": ModelConfig(
        name="gpt2-medium", display_name="GPT-2 Medium (355M)",
        batch_size=4, max_length=512, lora_rank=16, lora_alpha=32, gradient_accumulation_steps=4, learning_rate=2e-4,
        target_modules=GPT2_LAYERS, vram_required_gb=3.5, quality_rating=3, speed_rating=4,
        description="Better quality without giving up too much speed.",
        description_fr="Meilleure qualité sans trop sacrifier la vitesse.",
        licence="mit",
    ),
    "gpt2-large": ModelConfig(
        name="gpt2-large", display_name="GPT-2 Large (774M)",
        batch_size=2, max_length=512, lora_rank=16, lora_alpha=32, gradient_accumulation_steps=8, learning_rate=1e-4,
        target_modules=GPT2_LAYERS, vram_required_gb=5.0, quality_rating=4, speed_rating=3,
        description="High quality, needs 6 GB of VRAM or more.",
        description_fr="Haute qualité, nécessite 6GB+ VRAM.",
        licence="mit",
    ),
    "HuggingFaceTB/SmolLM2-135M-Instruct": ModelConfig(
        name="HuggingFaceTB/SmolLM2-135M-Instruct", display_name="SmolLM2 135M Instruct",
        batch_size=8, max_length=512, lora_rank=16, lora_alpha=32, gradient_accumulation_steps=1, learning_rate=1.5e-3,
        target_modules=LLAMA_LAYERS, vram_required_gb=2.0, quality_rating=2, speed_rating=5,
        description="Comes with the installation: learns your data in minutes on any computer, without a network.",
        description_fr="Livré avec l’installation : apprend vos données en quelques minutes sur tout ordinateur, sans réseau.",
        licence="apache-2.0", embedded=True,
    ),
    "gpt2-xl": ModelConfig(
        name="gpt2-xl", display_name="GPT-2 XL (1.6B)",
        batch_size=1, max_length=512, lora_rank=16, lora_alpha=32, gradient_accumulation_steps=16, learning_rate=1e-4,
        target_modules=GPT2_LAYERS, vram_required_gb=8.0, quality_rating=4, speed_rating=2,
        description="The largest GPT-2, for cards of 8 to 10 GB.",
        description_fr="Le plus grand GPT-2, pour les cartes de 8 à 10 Go.",
        licence="mit",
    ),
    "mistralai/Mistral-7B-v0.3": ModelConfig(
        name="mistralai/Mistral-7B-v0.3", display_name="Mistral 7B (4-bit)",
        batch_size=1, max_length=512, lora_rank=16, lora_alpha=32, gradient_accumulation_steps=16, learning_rate=1e-4,
        target_modules=LLAMA_LAYERS, vram_required_gb=7.5, quality_rating=5, speed_rating=2,
        description="Excellent quality with the frozen weights in 4 bits: fits on an NVIDIA card of 8 GB.",
        description_fr="Excellente qualité, poids figés sur 4 bits : tient sur une carte NVIDIA de 8 Go.",
        licence="apache-2.0", quantization="nf4",
    ),
    "meta-llama/Llama-2-7b-hf": ModelConfig(
        name="meta-llama/Llama-2-7b-hf", display_name="Llama 2 7B",
        batch_size=1, max_length=512, lora_rank=16, lora_alpha=32, gradient_accumulation_steps=16, learning_rate=1e-4,
        target_modules=LLAMA_LAYERS, vram_required_gb=14.0, quality_rating=5, speed_rating=2,
        description="Excellent quality, requires 16GB+ VRAM",
        description_fr="Excellente qualité, demande 16 Go de VRAM ou plus.",
        licence="llama2", gated=True,
    ),
    "microsoft/phi-2": ModelConfig(
        name="microsoft/phi-2", display_name="Phi-2 (2.7B)",
        batch_size=1, max_length=512, lora_rank=16, lora_alpha=32, gradient_accumulation_steps=16, learning_rate=2e-4,
        target_modules=PHI_LAYERS, vram_required_gb=8.0, quality_rating=4, speed_rating=2,
        description="Strong at reasoning and code for its size.",
        description_fr="Fort en raisonnement et en code pour sa taille.",
        licence="mit",
    ),
    "HuggingFaceTB/SmolLM2-360M-Instruct": ModelConfig(
        name="HuggingFaceTB/SmolLM2-360M-Instruct", display_name="SmolLM2 360M Instruct",
        batch_size=8, max_length=512, lora_rank=16, lora_alpha=32, gradient_accumulation_steps=2, learning_rate=5e-4,
        target_modules=LLAMA_LAYERS, vram_required_gb=4.0, quality_rating=3, speed_rating=4,
        description="A small chat model with clearly better answers than the 135M one.",
        description_fr="Petit modèle de dialogue, nettement meilleur que celui de 135M.",
        licence="apache-2.0",
    ),
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": ModelConfig(
        name="HuggingFaceTB/SmolLM2-1.7B-Instruct", display_name="SmolLM2 1.7B Instruct",
        batch_size=2, max_length=512, lora_rank=16, lora_alpha=32, gradient_accumulation_steps=8, learning_rate=3e-4,
        target_modules=LLAMA_LAYERS, vram_required_gb=6.0, quality_rating=4, speed_rating=3,
        description="A capable chat model in English for mid-range cards.",
        description_fr="Bon modèle de dialogue en anglais pour les cartes de milieu de gamme.",
        licence="apache-2.0",
    ),
    "Qwen/Qwen2.5-0.5B-Instruct": ModelConfig(
        name="Qwen/Qwen2.5-0.5B-Instruct", display_name="Qwen2.5 0.5B Instruct",
        batch_size=8, max_length=512, lora_rank=16, lora_alpha=32, gradient_accumulation_steps=2, learning_rate=3e-4,
        target_modules=LLAMA_LAYERS, vram_required_gb=4.0, quality_rating=3, speed_rating=4,
        description="Small, multilingual (French included), a good first chat model.",
        description_fr="Petit, multilingue (dont le français), un bon premier modèle de dialogue.",
        licence="apache-2.0",
    ),
    "Qwen/Qwen2.5-1.5B-Instruct": ModelConfig(
        name="Qwen/Qwen2.5-1.5B-Instruct", display_name="Qwen2.5 1.5B Instruct",
        batch_size=2, max_length=512, lora_rank=16, lora_alpha=32, gradient_accumulation_steps=8, learning_rate=2e-4,
        target_modules=LLAMA_LAYERS, vram_required_gb=6.0, quality_rating=4, speed_rating=3,
        description="Multilingual, strong for its size: a sound choice for 6 to 8 GB.",
        description_fr="Multilingue, fort pour sa taille : un choix sûr pour 6 à 8 Go.",
        licence="apache-2.0",
    ),
    "Qwen/Qwen2.5-3B-Instruct": ModelConfig(
        name="Qwen/Qwen2.5-3B-Instruct", display_name="Qwen2.5 3B Instruct",
        batch_size=1, max_length=512, lora_rank=16, lora_alpha=32, gradient_accumulation_steps=16, learning_rate=2e-4,
        target_modules=LLAMA_LAYERS, vram_required_gb=8.0, quality_rating=4, speed_rating=2,
        description="Multilingual, very good quality; its licence forbids commercial use.",
        description_fr="Multilingue, très bonne qualité ; sa licence interdit l’usage commercial.",
        licence="qwen-research",
    ),
    "Qwen/Qwen2.5-7B-Instruct": ModelConfig(
        name="Qwen/Qwen2.5-7B-Instruct", display_name="Qwen2.5 7B Instruct (4-bit)",
        batch_size=1, max_length=512, lora_rank=16, lora_alpha=32, gradient_accumulation_steps=16, learning_rate=1e-4,
        target_modules=LLAMA_LAYERS, vram_required_gb=9.0, quality_rating=5, speed_rating=2,
        description="Multilingual, excellent quality with the frozen weights in 4 bits.",
        description_fr="Multilingue, excellente qualité, poids figés sur 4 bits.",
        licence="apache-2.0", quantization="nf4",
    ),
    "Qwen/Qwen3-0.6B": ModelConfig(
        name="Qwen/Qwen3-0.6B", display_name="Qwen3 0.6B",
        batch_size=8, max_length=512, lora_rank=16, lora_alpha=32, gradient_accumulation_steps=2, learning_rate=3e-4,
        target_modules=LLAMA_LAYERS, vram_required_gb=5.0, quality_rating=3, speed_rating=4,
        description="A recent small multilingual model.",
        description_fr="Petit modèle multilingue récent.",
        licence="apache-2.0",
    ),
    "Qwen/Qwen3-1.7B": ModelConfig(
        name="Qwen/Qwen3-1.7B", display_name="Qwen3 1.7B",
        batch_size=2, max_length=512, lora_rank=16, lora_alpha=32, gradient_accumulation_steps=8, learning_rate=2e-4,
        target_modules=LLAMA_LAYERS, vram_required_gb=6.0, quality_rating=4, speed_rating=3,
        description="Recent, multilingual, good reasoning for 6 to 8 GB.",
        description_fr="Récent, multilingue, bon raisonnement pour 6 à 8 Go.",
        licence="apache-2.0",
    ),
    "Qwen/Qwen3-4B": ModelConfig(
        name="Qwen/Qwen3-4B", display_name="Qwen3 4B",
        batch_size=1, max_length=512, lora_rank=16, lora_alpha=32, gradient_accumulation_steps=16, learning_rate=2e-4,
        target_modules=LLAMA_LAYERS, vram_required_gb=10.0, quality_rating=5, speed_rating=2,
        description="Recent, multilingual, excellent quality for cards of 12 GB.",
        description_fr="Récent, multilingue, excellente qualité pour les cartes de 12 Go.",
        licence="apache-2.0",
    ),
    "Qwen/Qwen3-8B": ModelConfig(
        name="Qwen/Qwen3-8B", display_name="Qwen3 8B (4-bit)",
        batch_size=1, max_length=512, lora_rank=16, lora_alpha=32, gradient_accumulation_steps=16, learning_rate=1e-4,
        target_modules=LLAMA_LAYERS, vram_required_gb=10.0, quality_rating=5, speed_rating=1,
        description="The best quality of this list, frozen weights in 4 bits, for cards of 10 to 12 GB.",
        description_fr="La meilleure qualité de cette liste, poids figés sur 4 bits, pour les cartes de 10 à 12 Go.",
        licence="apache-2.0", quantization="nf4",
    ),
    "meta-llama/Llama-3.2-1B-Instruct": ModelConfig(
        name="meta-llama/Llama-3.2-1B-Instruct", display_name="Llama 3.2 1B Instruct",
        batch_size=4, max_length=512, lora_rank=16, lora_alpha=32, gradient_accumulation_steps=4, learning_rate=2e-4,
        target_modules=LLAMA_LAYERS, vram_required_gb=6.0, quality_rating=3, speed_rating=4,
        description="Multilingual chat model for cards of 6 GB.",
        description_fr="Modèle de dialogue multilingue pour les cartes de 6 Go.",
        licence="llama3.2", gated=True,
    ),
    "meta-llama/Llama-3.2-3B-Instruct": ModelConfig(
        name="meta-llama/Llama-3.2-3B-Instruct", display_name="Llama 3.2 3B Instruct",
        batch_size=1, max_length=512, lora_rank=16, lora_alpha=32, gradient_accumulation_steps=16, learning_rate=2e-4,
        target_modules=LLAMA_LAYERS, vram_required_gb=8.0, quality_rating=4, speed_rating=2,
        description="Multilingual, very good quality for cards of 8 to 10 GB.",
        description_fr="Multilingue, très bonne qualité pour les cartes de 8 à 10 Go.",
        licence="llama3.2", gated=True,
    ),
    "meta-llama/Llama-3.1-8B-Instruct": ModelConfig(
        name="meta-llama/Llama-3.1-8B-Instruct", display_name="Llama 3.1 8B Instruct (4-bit)",
        batch_size=1, max_length=512, lora_rank=16, lora_alpha=32, gradient_accumulation_steps=16, learning_rate=1e-4,
        target_modules=LLAMA_LAYERS, vram_required_gb=9.5, quality_rating=5, speed_rating=1,
        description="Excellent multilingual quality, frozen weights in 4 bits.",
        description_fr="Excellente qualité multilingue, poids figés sur 4 bits.",
        licence="llama3.1", gated=True, quantization="nf4",
    ),
    "google/gemma-3-270m-it": ModelConfig(
        name="google/gemma-3-270m-it", display_name="Gemma 3 270M",
        batch_size=8, max_length=512, lora_rank=16, lora_alpha=32, gradient_accumulation_steps=2, learning_rate=5e-4,
        target_modules=LLAMA_LAYERS, vram_required_gb=3.0, quality_rating=2, speed_rating=5,
        description="Tiny and made to be specialised: classification, extraction, short answers.",
        description_fr="Minuscule et fait pour être spécialisé : classification, extraction, réponses courtes.",
        licence="gemma", gated=True,
    ),
    "google/gemma-3-1b-it": ModelConfig(
        name="google/gemma-3-1b-it", display_name="Gemma 3 1B",
        batch_size=4, max_length=512, lora_rank=16, lora_alpha=32, gradient_accumulation_steps=4, learning_rate=2e-4,
        target_modules=LLAMA_LAYERS, vram_required_gb=5.0, quality_rating=3, speed_rating=4,
        description="Compact chat model with fluent answers.",
        description_fr="Modèle de dialogue compact aux réponses fluides.",
        licence="gemma", gated=True,
    ),
    "google/gemma-3-4b-it": ModelConfig(
        name="google/gemma-3-4b-it", display_name="Gemma 3 4B",
        batch_size=1, max_length=512, lora_rank=16, lora_alpha=32, gradient_accumulation_steps=16, learning_rate=2e-4,
        target_modules=LLAMA_LAYERS, vram_required_gb=11.0, quality_rating=5, speed_rating=2,
        description="Multilingual, excellent quality for cards of 12 GB; only its text part is trained.",
        description_fr="Multilingue, excellente qualité pour les cartes de 12 Go ; seule sa partie texte est entraînée.",
        licence="gemma", gated=True,
    ),
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": ModelConfig(
        name="TinyLlama/TinyLlama-1.1B-Chat-v1.0", display_name="TinyLlama 1.1B Chat",
        batch_size=4, max_length=512, lora_rank=16, lora_alpha=32, gradient_accumulation_steps=4, learning_rate=2e-4,
        target_modules=LLAMA_LAYERS, vram_required_gb=5.0, quality_rating=3, speed_rating=4,
        description="An open Llama in small, for tries on cards of 6 GB.",
        description_fr="Un petit Llama ouvert, pour des essais sur les cartes de 6 Go.",
        licence="apache-2.0",
    ),
}  # fmt: skip


def get_model(studio: Studio, model_name: str) -> FoundModel:
    """Return a model: of the catalogue, added, or any hub id or folder. Raise NotFound, and what a look at the hub raises."""
    for model_id, entry in MODEL_CONFIGS.items():
        if model_name in (model_id, entry.name):
            return FoundModel(model_id, entry, find_catalogue_shape(studio, entry))
    return get_outside_model(studio, model_name)


def finetune(
    studio: Studio,
    dataset_id: str,
    model_name: str,
    *,
    name: str | None = None,
    device_id: str | None = None,
    continue_from: str | None = None,
    exports: Sequence[ExportFormat] = (),
    resume_from: ResumeFrom | None = None,
    checkpoint_every_steps: int | None = None,
    checkpoint_every_seconds: float | None = None,
    checkpoints_kept: int | None = None,
    checkpoints_bytes: int | None = None,
    objective: Objective | None = None,
    method: Method | None = None,
    beta: float | None = None,
    num_epochs: int | None = None,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    gradient_accumulation_steps: int | None = None,
    max_length: int | None = None,
    long_rows: LongRows | None = None,
    lora_rank: int | None = None,
    lora_alpha: int | None = None,
    lora_dropout: float | None = None,
    use_rslora: bool | None = None,
    use_dora: bool | None = None,
    target_modules: list[str] | None = None,
    weight_decay: float | None = None,
    warmup_ratio: float | None = None,
    lr_scheduler: Scheduler | None = None,
    max_grad_norm: float | None = None,
    dtype: Dtype | None = None,
    quantization: Quantization | None = None,
    gradient_checkpointing: bool | None = None,
    keep_best: bool | None = None,
    early_stopping: int | None = None,
    report_rows: int | None = None,
    seed: int | None = None,
) -> JobRow:
    """Queue a fine-tuning job and return its row. None = automatic; the job records each value and who decided it.

    `continue_from` is a finished job of the same model, whose adapter is trained further. `resume_from` goes on where a
    failed or cancelled job stood, with that job's values (job_control.py). A checkpoint is written by time, and every
    `checkpoint_every_steps` optimizer steps where that is set.
    Raise Invalid for a value out of range, NotFound for an unknown data set, model or device, HubUnreachable when the
    weights are neither here nor can be had: all of them before anything is queued. Too little memory is a warning in
    the plan, never an error.
    """
    options = {
        "objective": objective,
        "method": method,
        "beta": beta,
        "num_epochs": num_epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "gradient_accumulation_steps": gradient_accumulation_steps,
        "max_length": max_length,
        "long_rows": long_rows,
        "lora_rank": lora_rank,
        "lora_alpha": lora_alpha,
        "lora_dropout": lora_dropout,
        "use_rslora": use_rslora,
        "use_dora": use_dora,
        "target_modules": target_modules,
        "weight_decay": weight_decay,
        "warmup_ratio": warmup_ratio,
        "lr_scheduler": lr_scheduler,
        "max_grad_norm": max_grad_norm,
        "dtype": dtype,
        "quantization": quantization,
        "gradient_checkpointing": gradient_checkpointing,
        "keep_best": keep_best,
        "early_stopping": early_stopping,
        "report_rows": report_rows,
        "seed": seed,
    }
    if resume_from is not None:
        return job_control.continue_ended(
            studio, resume_from, dataset_id=dataset_id, model_name=model_name, name=name, options=options
        )
    model = partial(get_model, studio, model_name)
    run = plan_run(studio, dataset_id, model, device_id=device_id, continue_from=continue_from, options=options)
    if not run.info.confirmed:
        raise DatasetInvalid("unconfirmed", columns=", ".join(run.info.columns[:8]))
    refuse_failed(run.checks)
    check_exports(studio, run.model, exports)
    source = studio.models.resolve(run.model.entry.name)
    start = run.continued.folder.adapter if run.continued else None
    saving = {
        "checkpoint_every_steps": checkpoint_every_steps,
        "checkpoint_every_seconds": checkpoint_every_seconds,
        "checkpoints_kept": checkpoints_kept,
        "checkpoints_bytes": checkpoints_bytes,
    }
    chosen = {field: value for field, value in saving.items() if value is not None}
    job = _build_job(run, source, name, exports).model_copy(update=chosen)
    return job_service.enqueue(studio, job, run.dataset, start)


def _build_job(run: PlannedRun, source: ModelSource, name: str | None, exports: Sequence[ExportFormat]) -> TrainingJob:
    value = {option: resolved.value for option, resolved in run.plan.resolved.items()}
    display_name = run.model.entry.display_name
    return TrainingJob(
        job_id=f"job-{uuid.uuid4().hex[:12]}",
        name=(name or "").strip() or f"{display_name} · {run.info.name}",
        created_at=utc_now(),
        model=source.model_copy(update={"display_name": display_name}),
        dataset=DatasetSource(
            dataset_id=run.info.dataset_id,
            name=run.info.name,
            content_hash=run.info.content_hash,
            train_rows=run.info.train_rows,
            heldout_rows=run.info.heldout_rows,
        ),
        lora=Lora(
            rank=value["lora_rank"],
            alpha=value["lora_alpha"],
            dropout=value["lora_dropout"],
            target_modules=value["target_modules"],
            fan_in_fan_out=run.model.shape is not None and run.model.shape.family == "gpt2",
            use_rslora=value["use_rslora"],
            use_dora=value["use_dora"],
        ),
        optimization=Optimization(
            num_epochs=value["num_epochs"],
            learning_rate=value["learning_rate"],
            micro_batch_size=value["batch_size"],
            gradient_accumulation_steps=value["gradient_accumulation_steps"],
            max_length=value["max_length"],
            long_rows=value["long_rows"],
            weight_decay=value["weight_decay"],
            warmup_ratio=value["warmup_ratio"],
            lr_scheduler=value["lr_scheduler"],
            max_grad_norm=value["max_grad_norm"],
            gradient_checkpointing=value["gradient_checkpointing"],
            seed=value["seed"],
        ),
        device_id=run.plan.device_id,
        dtype=value["dtype"],
        quantization=value["quantization"],
        checkpoint_every_seconds=CHECKPOINT_SECONDS,
        method=value["method"],
        beta=value["beta"],
        keep_best=value["keep_best"],
        early_stopping=value["early_stopping"],
        report_rows=value["report_rows"],
        exports=list(dict.fromkeys(exports)),
        continue_from=run.continued.job.job_id if run.continued else None,
        plan=run.plan,
        versions=versions(),
    )
