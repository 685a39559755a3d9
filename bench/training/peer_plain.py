"""`peer_plain.py SPEC_JSON`: the loop that one writes with transformers and PEFT alone, on the rows of one comparison."""

import json
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, get_linear_schedule_with_warmup


def read_rows(file: str, count: int, tokenizer: Any, length: int) -> list[tuple[list[int], int]]:
    """Return (ids, tokens of the prompt) of the first `count` rows."""
    rows = []
    with Path(file).open(encoding="utf-8") as lines:
        for line in list(lines)[:count]:
            turns = json.loads(line)["messages"]
            prompt = tokenizer.apply_chat_template(turns[:-1], add_generation_prompt=True, return_dict=False)
            whole = tokenizer.apply_chat_template(turns, return_dict=False)
            rows.append((whole[:length], len(prompt)))
    return rows


def pad(rows: list[tuple[list[int], int]], pad_id: int) -> dict[str, Any]:
    """Return the inputs of one micro-batch; no mask where nothing is padded."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), longest), pad_id)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for place, (row, prompt) in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
        mask[place, : len(row)] = 1
        labels[place, prompt : len(row)] = ids[place, prompt : len(row)]
    return {"input_ids": ids, "labels": labels} | ({} if mask.all() else {"attention_mask": mask})


def main() -> None:
    """Train, save the adapter, write what was measured."""
    spec = json.loads(sys.argv[1])
    setting, batch = spec["setting"], spec["batch"]
    torch.manual_seed(spec["seed"])
    tokenizer = AutoTokenizer.from_pretrained(spec["model"])
    rows = read_rows(spec["rows_file"], spec["rows"], tokenizer, spec["length"])
    model = AutoModelForCausalLM.from_pretrained(
        spec["model"], dtype=getattr(torch, setting["weights"]), attn_implementation=setting["attention"], use_cache=False
    )
    lora = LoraConfig(r=spec["rank"], lora_alpha=2 * spec["rank"], target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(model, lora).train()
    if setting["checkpointing"]:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=spec["learning_rate"], weight_decay=0.0, fused=True)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, len(rows) // batch)
    result: dict[str, Any] = {"began": time.time(), "step_ends": [], "step_tokens": [], "losses": []}
    for first in range(0, len(rows), batch):
        step = sorted(rows[first : first + batch], key=lambda row: -len(row[0]))
        learned = sum(len(ids) - prompt for ids, prompt in step)
        total = 0.0
        for start in range(0, len(step), setting["micro_batch"]):
            inputs = pad(step[start : start + setting["micro_batch"]], tokenizer.pad_token_id)
            with torch.autocast("cpu", torch.bfloat16) if setting["autocast"] else nullcontext():
                loss = model(**inputs, num_items_in_batch=learned).loss
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        result["step_ends"].append(time.time())
        result["step_tokens"].append(sum(len(ids) for ids, _ in step))
        result["losses"].append(total)
    model.save_pretrained(spec["out"])
    result["threads"] = torch.get_num_threads()
    Path(spec["result"]).write_text(json.dumps(result), "utf-8")


if __name__ == "__main__":
    main()
