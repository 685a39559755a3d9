"""`peer_preferences.py SPEC_JSON`: TRL's DPOTrainer or KTOTrainer with PEFT on given rows. Runs in TRL's own environment."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peer_trl import Clock
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

CONFIGS = {"dpo": (DPOConfig, DPOTrainer), "kto": (KTOConfig, KTOTrainer)}


def main() -> None:
    """Train and write what was measured."""
    spec = json.loads(sys.argv[1])
    micro = spec["micro_batch"]
    make_config, make_trainer = CONFIGS[spec["method"]]
    options: dict[str, Any] = {
        "output_dir": spec["out"],
        "num_train_epochs": 1,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": spec["batch"] // micro,
        "max_length": spec["length"],
        "learning_rate": spec["learning_rate"],
        "beta": spec["beta"],
        "precompute_ref_log_probs": True,
        "train_sampling_strategy": "sequential",
        "gradient_checkpointing": False,
        "bf16": False,
        "seed": spec["seed"],
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
    }
    model = AutoModelForCausalLM.from_pretrained(spec["model"], dtype=torch.bfloat16, attn_implementation="eager")
    clock = Clock()
    began = time.time()
    trainer = make_trainer(
        model=model,
        args=make_config(**options),
        train_dataset=Dataset.from_list(json.loads(Path(spec["rows_file"]).read_text("utf-8"))),
        processing_class=AutoTokenizer.from_pretrained(spec["model"]),
        peft_config=LoraConfig(r=spec["rank"], lora_alpha=2 * spec["rank"], target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[clock],
    )
    reference_seconds = time.time() - began
    trainer.train()
    result = {
        "reference_seconds": reference_seconds,
        "step_ends": clock.step_ends,
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
    }
    Path(spec["result"]).write_text(json.dumps(result), "utf-8")


if __name__ == "__main__":
    main()
