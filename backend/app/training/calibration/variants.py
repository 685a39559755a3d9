"""Which models and micro-batches are timed: a block or two of real widths, so that no whole step of a large model is needed."""

from dataclasses import dataclass
from typing import Any, Literal

TRAINED_SHARE = 0.5

Size = Literal["small", "large"]
"""Which set of models is timed: `large` keeps a card busy and takes 5 GB of it, `small` is for the rest."""
LARGE_BYTES = 8 << 30
"""Free memory of a card from which on the large set is used."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One micro-batch to time: a model of MODELS, its rows."""

    model: str
    batch: int
    length: int
    checkpointing: bool = False
    trained_share: float = TRAINED_SHARE
    full: bool = True
    """Whether it is also timed in 32 bits where the device is quicker in 16."""
    forward: bool = False
    """Whether the pass without gradients is timed as well, in the usual precision."""
    alone: bool = False
    """Whether a processor's micro-batch is also timed with all threads to itself."""


# Llama: hidden, intermediate, heads, kv heads, head size; GPT-2: hidden, heads. Then layers and vocabulary.
# `older`: the blocks of GPT-2. `small`: the embedded model's width. `wide`: large products. `words`: mostly output head.
MODELS: dict[Size, dict[str, tuple[int, ...]]] = {
    "small": {
        "older": (768, 12, 2, 1024),
        "small": (576, 1536, 9, 3, 64, 2, 2048),
        "wide": (1536, 4096, 24, 4, 64, 1, 2048),
        "words": (576, 1536, 9, 3, 64, 1, 32768),
    },
    "large": {
        "older": (1024, 16, 6, 2048),
        "small": (1024, 4096, 16, 8, 64, 4, 2048),
        "wide": (4096, 11008, 32, 8, 128, 2, 2048),
        "words": (2048, 5632, 32, 4, 64, 1, 65536),
    },
}
VARIANTS: dict[Size, tuple[Variant, ...]] = {
    "small": (
        Variant("older", 2, 128, forward=True),
        Variant("older", 1, 384, full=False),
        Variant("small", 1, 64, full=False),
        Variant("small", 4, 64, forward=True),
        Variant("small", 1, 640, full=False, alone=True),
        Variant("small", 1, 320),
        Variant("small", 2, 96, checkpointing=True, full=False),
        Variant("wide", 1, 96, forward=True),
        Variant("words", 1, 96, trained_share=1.0, full=False),
    ),
    "large": (
        Variant("older", 1, 128),
        Variant("older", 8, 512, forward=True),
        Variant("small", 1, 256, full=False),
        Variant("small", 8, 512, forward=True),
        Variant("small", 2, 2048),
        Variant("small", 4, 512, checkpointing=True),
        Variant("wide", 1, 512, forward=True),
        Variant("wide", 4, 512, full=False),
        Variant("wide", 2, 1024, checkpointing=True, full=False),
        Variant("words", 4, 512, trained_share=1.0),
    ),
}


def make_config(sizes: tuple[int, ...]) -> Any:
    """Return the transformers configuration of an entry of MODELS."""
    from transformers import GPT2Config, LlamaConfig

    if len(sizes) == 4:
        hidden, heads, layers, vocab = sizes
        return GPT2Config(
            n_embd=hidden, n_head=heads, n_layer=layers, vocab_size=vocab, n_positions=2048, bos_token_id=0, eos_token_id=0,
            use_cache=False,
        )  # fmt: skip
    hidden, inner, heads, kv_heads, head_dim, layers, vocab = sizes
    return LlamaConfig(
        hidden_size=hidden, intermediate_size=inner, num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=head_dim,
        num_hidden_layers=layers, vocab_size=vocab, max_position_embeddings=4096, tie_word_embeddings=True, bos_token_id=0,
        eos_token_id=0, use_cache=False,
    )  # fmt: skip
