"""What an entry of the catalogue says about a model."""

from dataclasses import dataclass

from app.contracts.options import Quantization
from app.core.messages import Language


@dataclass
class ModelEntry:
    """One model: of the catalogue (ModelConfig), or computed from its sizes. 13 fields of the specification come first."""

    name: str
    """Hub id or folder: where the weights come from."""
    display_name: str
    batch_size: int
    """Rows per micro-batch; the planner may split it, keeping the product with the accumulation."""
    max_length: int
    """Tokens per row."""
    lora_rank: int
    lora_alpha: int
    gradient_accumulation_steps: int
    learning_rate: float
    target_modules: list[str]
    vram_required_gb: float
    """GPU memory for this entry's own values; 1 GB is 2**30 bytes, CUDA context included."""
    quality_rating: int
    """Stars, 1 to 5."""
    speed_rating: int
    """Stars, 1 to 5."""
    description: str
    """What it is good for, in English."""

    description_fr: str = ""
    """The same in French; empty = the English text."""
    licence: str = ""
    """SPDX id or the licence's usual name; empty = unknown."""
    gated: bool = False
    """Whether the hub asks for an account that accepted the licence (HF_TOKEN)."""
    quantization: Quantization = "none"
    """`nf4`: the frozen weights are held in 4 bits, on NVIDIA cards."""
    is_default: bool = False
    """The entry that is preselected when its weights can be had."""
    embedded: bool = False
    """Whether the weights come with the installation and need no network."""

    def describe(self, language: Language) -> str:
        """Return the description in `language`, in English where there is no other."""
        return self.description_fr if language == "fr" and self.description_fr else self.description
