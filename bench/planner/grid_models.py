"""Small models with random weights and a real tokenizer, and rows of chosen lengths: what the grid of CPU runs needs."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

MODELS: dict[str, dict[str, Any]] = {
    "distilgpt2": {"model_type": "gpt2", "n_layer": 6, "n_embd": 768, "n_head": 12},
    "gpt2": {"model_type": "gpt2", "n_layer": 12, "n_embd": 768, "n_head": 12},
    "llama-79m": {
        "model_type": "llama", "hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 10,
        "num_attention_heads": 8, "num_key_value_heads": 4, "tie_word_embeddings": False,
    },
    "llama-281m": {
        "model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 4,
        "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": True,
    },
    "qwen2-137m": {
        "model_type": "qwen2", "hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 8,
        "num_attention_heads": 10, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
    },
}  # fmt: skip
"""Shapes of GPT-2 and DistilGPT-2, and invented ones of other families: deep, wide, a large vocabulary."""
CONTEXT = 2048
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
WORDS = ("the", "of", "river", "stone", "light", "carries", "people", "small", "winter", "seven", "house", "blue", "bread")
TEMPLATE_TOKENS = 40
"""What the embedded model's chat template adds to a row, its system sentence counted."""


def write_models(folder: Path, embedded: Path) -> None:
    """Write every model of MODELS that is missing below `folder`, with the embedded model's tokenizer, in bfloat16."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    words = json.loads((embedded / "config.json").read_text("utf-8"))
    for name, sizes in MODELS.items():
        target = folder / name
        if (target / "tokenizer.json").exists():
            continue
        shared = {"vocab_size": words["vocab_size"], "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
        length = "n_positions" if sizes["model_type"] == "gpt2" else "max_position_embeddings"
        config = AutoConfig.for_model(**{**shared, length: CONTEXT, **sizes})
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(target)
        for file in TOKENIZER_FILES:
            shutil.copyfile(embedded / file, target / file)


def write_rows(file: Path, count: int, shortest: int, longest: int) -> None:
    """Write `count` questions with answers of about `shortest` to `longest` tokens together, template counted."""
    numbers = random.Random(f"{count} {shortest} {longest}")
    with file.open("w", encoding="utf-8") as lines:
        for index in range(count):
            words = [numbers.choice(WORDS) for _ in range(numbers.randint(shortest, longest) - TEMPLATE_TOKENS)]
            cut = max(1, len(words) // 3)
            row = {"instruction": f"{index} " + " ".join(words[:cut]), "output": " ".join(words[cut:])}
            lines.write(json.dumps(row) + "\n")
