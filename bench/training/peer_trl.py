"""`peer_trl.py SPEC_JSON`: TRL's SFTTrainer with PEFT on the rows of one comparison. Runs in TRL's own environment."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer


class Clock(TrainerCallback):
    """Notes when each optimizer step has ended."""

    def __init__(self) -> None:
        self.began = 0.0
        self.step_ends: list[float] = []
        self.micro_batch_tokens: list[int] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.began = time.time()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.step_ends.append(time.time())


def count_tokens(trainer: SFTTrainer, clock: Clock) -> None:
    """Let `clock` note the real tokens of each micro-batch, padding not counted."""
    collate = trainer.data_collator

    def counting(features: list[dict[str, Any]]) -> Any:
        clock.micro_batch_tokens.append(sum(len(row["input_ids"]) for row in features))
        return collate(features)

    trainer.data_collator = counting


def main() -> None:
    """Train, save the adapter, write what was measured."""
    spec = json.loads(sys.argv[1])
    setting, batch = spec["setting"], spec["batch"]
    rows = []
    with Path(spec["rows_file"]).open(encoding="utf-8") as lines:
        for line in list(lines)[: spec["rows"]]:
            turns = json.loads(line)["messages"]
            rows.append({"prompt": turns[:-1], "completion": turns[-1:]})
    micro = setting["micro_batch"]
    options: dict[str, Any] = {
        "output_dir": spec["out"],
        "num_train_epochs": 1,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": batch // micro,
        "max_length": spec["length"],
        "learning_rate": spec["learning_rate"],
        "seed": spec["seed"],
        "train_sampling_strategy": "group_by_length" if setting["grouped"] else "sequential",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
    }
    model: Any = spec["model"]
    if not setting["as_it_comes"]:
        options |= {
            "bf16": setting["autocast"],
            "gradient_checkpointing": setting["checkpointing"],
            "packing": setting["packing"],
        }
        model = AutoModelForCausalLM.from_pretrained(
            model, dtype=getattr(torch, setting["weights"]), attn_implementation=setting["attention"]
        )
    if setting["packing"]:
        # A packed sequence holds several rows: as many sequences a step as hold about `batch` of them.
        tokens = sum(spec["row_tokens"][: len(rows)])
        options["gradient_accumulation_steps"] = max(1, round(batch * tokens / len(rows) / spec["length"]))
    clock = Clock()
    lora = LoraConfig(r=spec["rank"], lora_alpha=2 * spec["rank"], target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(**options),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(spec["model"]),
        peft_config=lora,
        callbacks=[clock],
    )
    count_tokens(trainer, clock)
    trainer.train()
    trainer.save_model(spec["out"])
    accumulation = options["gradient_accumulation_steps"]
    counts = clock.micro_batch_tokens
    result = {
        "began": clock.began,
        "step_ends": clock.step_ends,
        "step_tokens": [sum(counts[first : first + accumulation]) for first in range(0, len(counts), accumulation)],
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "threads": torch.get_num_threads(),
    }
    Path(spec["result"]).write_text(json.dumps(result), "utf-8")


if __name__ == "__main__":
    main()
