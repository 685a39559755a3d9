"""Real but tiny models, data sets and jobs: two layers of width 32 and a byte-level tokenizer."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from app.contracts.dataset import Example, Message
from app.contracts.job import DatasetSource, Lora, ModelSource, Optimization, TrainingJob
from app.contracts.options import LongRows
from app.contracts.plan import MemoryParts, Plan
from app.datasets.render import Renderer
from app.storage.job_dir import JobDir
from app.training.rows import EncodedRows, encode_rows

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VOCABULARY = len(SPECIAL) + 256
LLAMA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
GPT2_TARGETS = ["c_attn", "c_proj", "c_fc"]


def write_tokenizer(folder: Path, chat_template: str | None) -> None:
    """Write a byte-level tokenizer: one id per byte, three control tokens."""
    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": SPECIAL[2], "pad_token": SPECIAL[0]}
    if chat_template is not None:
        config["chat_template"] = chat_template
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")


def write_llama(folder: Path, *, context: int = 1024, **changes: Any) -> Path:
    """Write a tiny Llama (grouped-query attention, tied head) with random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": context,
        "tie_word_embeddings": True,
        "initializer_range": 0.2,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "bos_token_id": 1,
        **changes,
    }
    LlamaForCausalLM(LlamaConfig(**settings)).save_pretrained(folder)
    write_tokenizer(folder, CHAT_TEMPLATE)
    return folder


def write_qwen2(folder: Path) -> Path:
    """Write a tiny Qwen 2 (queries, keys and values have a bias) with random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    config = Qwen2Config(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=VOCABULARY,
        initializer_range=0.2,
        eos_token_id=2,
    )
    model = Qwen2ForCausalLM(config)
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "norm.weight")):
            nn.init.normal_(parameter, mean=1.0, std=0.3)
    model.save_pretrained(folder)
    write_tokenizer(folder, CHAT_TEMPLATE)
    return folder


def write_gpt2(folder: Path, *, context: int = 1024) -> Path:
    """Write a tiny GPT-2 (Conv1D layers, no chat template) with random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    config = GPT2Config(
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=context,
        vocab_size=VOCABULARY,
        initializer_range=0.2,
        eos_token_id=2,
        bos_token_id=2,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    write_tokenizer(folder, None)
    return folder


def examples(count: int, *, start: int = 0) -> list[Example]:
    """Return small conversations of different lengths with a rule that can be learned."""
    animals = ["cat", "mongoose", "owl", "salamander", "ox"]
    rows = []
    for i in range(start, start + count):
        animal = animals[i % len(animals)]
        question = f"What does the {animal} number {i} eat?" + " Tell me." * (i % 4)
        answer = f"The {animal} eats {'apples' if i % 2 else 'blue cheese'}."
        turns = [Message(role="user", content=question), Message(role="assistant", content=answer)]
        rows.append(Example(row=i + 1, messages=turns))
    return rows


def make_job(
    folder: Path,
    model: Path,
    *,
    train: list[Example],
    heldout: list[Example],
    targets: list[str] | None = None,
    rank: int = 4,
    dropout: float = 0.0,
    checkpoint_every_seconds: float = 3600.0,
    kind: str = "folder",
    device_id: str = "cpu",
    dtype: str = "float32",
    quantization: str = "none",
    lora: dict[str, Any] | None = None,
    method: str = "sft",
    continue_from: str | None = None,
    **optimization: Any,
) -> JobDir:
    """Create a job folder for a model folder. `optimization` overrides single hyper-parameters."""
    settings: dict[str, Any] = {
        "num_epochs": 2,
        "learning_rate": 1e-2,
        "micro_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "max_length": 256,
        "long_rows": "truncate",
        "weight_decay": 0.0,
        "warmup_ratio": 0.1,
        "lr_scheduler": "cosine",
        "max_grad_norm": 1.0,
        "gradient_checkpointing": False,
        "seed": 7,
        **optimization,
    }
    job = TrainingJob(
        job_id=folder.name,
        name="tiny",
        created_at="2026-11-22T00:00:00.000Z",
        model=ModelSource.model_validate(
            {
                "model_id": str(model),
                "display_name": model.name,
                "kind": kind,
                "commit": "0" * 40,
                "path": str(model),
                "ready": model.exists(),
            }
        ),
        dataset=DatasetSource(dataset_id="d", name="d", content_hash="0" * 64, train_rows=len(train), heldout_rows=len(heldout)),
        lora=Lora(
            rank=rank,
            alpha=2 * rank,
            dropout=dropout,
            target_modules=targets or LLAMA_TARGETS,
            fan_in_fan_out=False,
            **(lora or {}),
        ),
        optimization=Optimization.model_validate(settings),
        device_id=device_id,
        dtype=dtype,
        quantization=quantization,
        checkpoint_every_seconds=checkpoint_every_seconds,
        method=method,  # type: ignore[arg-type]
        continue_from=continue_from,
        plan=empty_plan(),
        versions={},
    )
    job_dir = JobDir(folder)
    job_dir.create(job)
    for file, rows in ((job_dir.train_file, train), (job_dir.heldout_file, heldout)):
        file.write_text("".join(row.model_dump_json(exclude_none=True) + "\n" for row in rows), "utf-8")
    return job_dir


def encode(job_dir: JobDir, max_length: int = 512, long_rows: LongRows = "truncate") -> EncodedRows:
    """Return the training rows of a job as ids, which lie in its folder."""
    renderer = Renderer.load(Path(job_dir.read_job().model.path))
    file = job_dir.encoded / f"{max_length}.{long_rows}.rows"
    return encode_rows(job_dir.train_file, file, renderer, max_length=max_length, long_rows=long_rows, check_stop=lambda: None)


def empty_plan() -> Plan:
    """Return a plan without content: the trainer does not read it."""
    parts = MemoryParts(weights=0, adapter=0, gradients=0, optimizer=0, activations=0, logits=0, workspace=0, context=0)
    return Plan(
        model_id="tiny",
        device_id="cpu",
        verdict="fits",
        peak_bytes=0,
        peak_bytes_upper=0,
        available_bytes=0,
        parts=parts,
        seconds_p50=0,
        seconds_p90=0,
        steps=0,
        train_rows=0,
        heldout_rows=0,
        resolved={},
        reasons=[],
        warnings=[],
    )
