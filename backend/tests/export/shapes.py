"""Tiny models of every shape that can be exported, with a tokenizer that has merges, and adapters that change them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PhiConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from app.contracts.job import Lora
from app.training.lora import attach, save_adapter
from tests.engine.tiny import CHAT_TEMPLATE, SPECIAL, examples

LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TARGETS = {"gpt2": ["c_attn", "c_proj", "c_fc"], "phi": ["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"]}
VOCABULARY = 400

_SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "vocab_size": VOCABULARY,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
_GROUPED = {"num_key_value_heads": 2}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "llama": lambda: LlamaConfig(**_SIZES, **_GROUPED, tie_word_embeddings=True),
    "wide": lambda: LlamaConfig(**{**_SIZES, "hidden_size": 256, "intermediate_size": 512}, **_GROUPED),
    "llama3": lambda: LlamaConfig(**_SIZES, **_GROUPED, rope_parameters=_LLAMA3),
    "mistral": lambda: MistralConfig(**_SIZES, **_GROUPED, sliding_window=None),
    "qwen2": lambda: Qwen2Config(**_SIZES, **_GROUPED),
    "qwen3": lambda: Qwen3Config(**_SIZES, **_GROUPED, head_dim=32, tie_word_embeddings=True),
    "phi": lambda: PhiConfig(**_SIZES),
    "gpt2": lambda: GPT2Config(
        n_embd=64,
        n_layer=2,
        n_head=4,
        n_positions=512,
        vocab_size=VOCABULARY,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=2,
    ),
}


def write_model(folder: Path, shape: str, dtype: torch.dtype = torch.float32) -> Path:
    """Write a model of `shape` with random weights, biases and norms."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[shape]())
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
        elif "norm" in name or "ln_" in name:
            torch.nn.init.normal_(parameter, mean=1.0, std=0.3)
    model.to(dtype).save_pretrained(folder)
    write_bpe(folder, None if shape in ("gpt2", "phi") else CHAT_TEMPLATE)
    return folder


def write_bpe(folder: Path, template: str | None) -> None:
    """Write a byte-level tokenizer that was trained on the tests' conversations, and fills the embedding."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [message.content for example in examples(50) for message in example.messages or []]
    tokenizer.train_from_iterator([*texts, "### Instruction: ### Response: user assistant system"], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": SPECIAL[2],
        "pad_token": SPECIAL[0],
        "bos_token": SPECIAL[0],
    }
    if template is not None:
        config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")


def write_adapter(base: Path, folder: Path, shape: str, **variant: bool) -> Path:
    """Write an adapter that changes every linear layer of `base` visibly."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    lora = Lora(rank=4, alpha=8, dropout=0, target_modules=TARGETS.get(shape, LLAMA), fan_in_fan_out=shape == "gpt2", **variant)
    torch.manual_seed(1)
    for parameter in attach(model, lora):
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.05)
        else:
            parameter.data *= 1.1
    save_adapter(model, folder, str(base), lora)
    return folder
