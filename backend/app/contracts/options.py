"""What a person may choose for a fine-tuning job, with the one definition of every range.

The HTTP body, the command line and the page all validate against this model; `None` means automatic.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from app.contracts.frozen import Frozen

DEFAULT_NUM_EPOCHS = 5

Scheduler = Literal["linear", "cosine", "constant"]
Dtype = Literal["float32", "bfloat16", "float16"]
Quantization = Literal["none", "nf4"]
FOUR_BIT_PACKAGES = ("bitsandbytes", "accelerate")
"""What weights in 4 bits need: the extra `qlora`."""
LongRows = Literal["truncate", "drop", "split"]
Method = Literal["sft", "pretraining", "classification", "dpo", "kto"]
Objective = Literal["quality", "balanced", "speed"]


class FinetuningOptions(Frozen):
    """Hyper-parameters that can be overridden one by one; absent or null = automatic."""

    # The sentences below become the descriptions in OpenAPI and the help of the command line.
    model_config = ConfigDict(use_attribute_docstrings=True)

    objective: Objective | None = None
    """What the planner weighs highest where a value is automatic: `speed`, `balanced` or `quality`; automatic = balanced."""
    method: Method | None = None
    """How the rows are learned; automatic = by their arrangement: `sft` answers, `pretraining` raw text, `classification`
    classes, `dpo` a preferred answer and another one, `kto` answers judged good or bad."""
    beta: Annotated[float, Field(gt=0, le=10)] | None = None
    """DPO and KTO: how strongly the model is held near its start; lower lets it move further; automatic = 0.1."""
    num_epochs: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Passes over the training rows; automatic = 5."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    """Peak learning rate of AdamW."""
    batch_size: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Rows per micro-batch as the user's number; the planner may split it (product with accumulation kept)."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Micro-batches per optimizer step."""
    max_length: Annotated[int, Field(ge=8, le=131072)] | None = None
    """Tokens per row; longer rows are cut (see long_rows)."""
    long_rows: LongRows | None = None
    """What happens to a row longer than max_length: cut, left out, or made several rows; automatic = truncate."""
    lora_rank: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Rank of the adapter."""
    lora_alpha: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Scale of the adapter (update is multiplied by alpha / rank)."""
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Dropout on the adapter's input; automatic = 0."""
    use_rslora: bool | None = None
    """Multiply the update by alpha / square root of the rank instead, which suits high ranks (rsLoRA); automatic = off."""
    use_dora: bool | None = None
    """Train the length of each weight row beside its direction (DoRA): often better at low ranks, slower; automatic = off."""
    target_modules: (
        Annotated[list[Annotated[str, StringConstraints(min_length=1, max_length=100)]], Field(min_length=1, max_length=64)]
        | None
    ) = None
    """Names of the linear layers that get an adapter."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] | None = None
    """AdamW weight decay; automatic = 0."""
    warmup_ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the steps over which the learning rate rises; automatic = 0.03."""
    lr_scheduler: Scheduler | None = None
    """Shape of the learning rate after warm-up; automatic = cosine."""
    max_grad_norm: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Gradient norm at which gradients are clipped; automatic = 1.0."""
    dtype: Dtype | None = None
    """Precision of the frozen weights; automatic = the fastest that the device has natively."""
    quantization: Quantization | None = None
    """`nf4` holds the frozen weights in 4 bits (needs the `qlora` extra)."""
    gradient_checkpointing: bool | None = None
    """Recompute activations instead of keeping them."""
    keep_best: bool | None = None
    """Leave the adapter of the epoch with the lowest loss on held-out rows, not that of the last one; automatic = on."""
    early_stopping: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Stop when the loss on held-out rows has not fallen for so many epochs; 0 = never; automatic = 2."""
    report_rows: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Held-out rows that the original and the trained model answer at the end, for the report; automatic = 32."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """Seed of initialisation, order and dropout; automatic = 42."""


OPTION_NAMES: tuple[str, ...] = tuple(FinetuningOptions.model_fields)
