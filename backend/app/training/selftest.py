"""Prepare a complete miniature job, for `affinage doctor`: the real trainer then runs three steps on it in seconds.

`python -m app.training.selftest <folder>` writes into an empty folder:
    model/    a random Llama of two layers, with a byte-level tokenizer: no download, 200 kB
    job/      a job folder that `python -m app.training <folder>/job` can run: 6 rows, micro-batch 2, 1 epoch = 3 steps
"""

import sys
from pathlib import Path

from app.contracts.dataset import Example, Message
from app.contracts.job import DatasetSource, Lora, ModelSource, Optimization, TrainingJob
from app.contracts.plan import MemoryParts, Plan
from app.storage.job_dir import JobDir, utc_now

STEPS = 3
MICRO_BATCH_ROWS = 2
MODEL_ID = "affinage-selftest"
END = "<|end|>"
CHAT_TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"  # noqa: E501


def write_model(folder: Path) -> None:
    """Write a model with random weights in the layout of the hub."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = [END, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(alphabet),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def write_row(number: int) -> Example:
    """Return one sum as a conversation."""
    turns = [Message(role="user", content=f"{number} + 1?"), Message(role="assistant", content=str(number + 1))]
    return Example(row=number, messages=turns)


def write_job(folder: Path, model: Path, device_id: str = "cpu") -> JobDir:
    """Write a job folder with its rows; return it, ready to run."""
    rows = [write_row(number) for number in range(1, STEPS * MICRO_BATCH_ROWS + 1)]
    plan = Plan(
        model_id=MODEL_ID,
        device_id=device_id,
        verdict="fits",
        peak_bytes=0,
        peak_bytes_upper=0,
        available_bytes=0,
        parts=MemoryParts(weights=0, adapter=0, gradients=0, optimizer=0, activations=0, logits=0, workspace=0, context=0),
        seconds_p50=0,
        seconds_p90=0,
        steps=STEPS,
        train_rows=len(rows),
        heldout_rows=0,
        resolved={},
        reasons=[],
        warnings=[],
    )
    job = TrainingJob(
        job_id="selftest",
        name="selftest",
        created_at=utc_now(),
        model=ModelSource(
            model_id=MODEL_ID, display_name=MODEL_ID, kind="folder", commit="0" * 40, path=str(model.absolute()), ready=True
        ),
        dataset=DatasetSource(
            dataset_id="selftest", name="selftest", content_hash="0" * 64, train_rows=len(rows), heldout_rows=0
        ),
        lora=Lora(rank=4, alpha=8, dropout=0.0, target_modules=["q_proj", "v_proj"], fan_in_fan_out=False),
        optimization=Optimization(
            num_epochs=1,
            learning_rate=1e-3,
            micro_batch_size=MICRO_BATCH_ROWS,
            gradient_accumulation_steps=1,
            max_length=64,
            long_rows="truncate",
            weight_decay=0.0,
            warmup_ratio=0.0,
            lr_scheduler="constant",
            max_grad_norm=1.0,
            gradient_checkpointing=False,
            seed=42,
        ),
        device_id=device_id,
        dtype="float32",
        quantization="none",
        checkpoint_every_seconds=3600,
        plan=plan,
        versions={},
    )
    job_dir = JobDir(folder)
    job_dir.create(job)
    job_dir.train_file.write_text("".join(row.model_dump_json(exclude_none=True) + "\n" for row in rows), encoding="utf-8")
    job_dir.heldout_file.touch()
    return job_dir


def main(folder: Path) -> None:
    """Write both folders."""
    write_model(folder / "model")
    write_job(folder / "job", folder / "model")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
