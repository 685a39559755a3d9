"""`judge.py SPEC_JSON`: what adapters have learnt, measured for all alike with transformers and PEFT in fp32.

Held-out loss by name of the adapter, or greedy answers to questions. The loss is the mean over all tokens of the answers;
the end-of-turn token counts, what a template writes after it does not.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

ANSWER_TOKENS = 40


def read_rows(file: str, tokenizer: Any, length: int) -> list[tuple[list[int], int]]:
    """Return (ids, where the answer begins) of the rows that have an answer within `length` tokens."""
    special = set(tokenizer.all_special_ids)
    rows = []
    for line in Path(file).read_text("utf-8").splitlines():
        turns = json.loads(line)["messages"]
        start = len(tokenizer.apply_chat_template(turns[:-1], add_generation_prompt=True, return_dict=False))
        ids = tokenizer.apply_chat_template(turns, return_dict=False)
        while ids[-1] not in special and any(token in special for token in ids[start:]):
            ids.pop()
        if start < len(ids[:length]):
            rows.append((ids[:length], start))
    return rows


@torch.no_grad()
def measure_loss(model: Any, rows: list[tuple[list[int], int]]) -> float:
    """Return the mean loss in nats per answer token; one row at a time, so nothing is padded."""
    total = count = 0.0
    for ids, start in rows:
        hidden = model(torch.tensor([ids]), logits_to_keep=len(ids) - start + 1).logits[0, :-1]
        total += torch.nn.functional.cross_entropy(hidden.float(), torch.tensor(ids[start:]), reduction="sum").item()
        count += len(ids) - start
    return total / count


@torch.no_grad()
def answer(model: Any, tokenizer: Any, questions: list[str]) -> list[str]:
    """Return the most likely answer to each question."""
    answers = []
    for question in questions:
        turns = [{"role": "user", "content": question}]
        inputs = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        written = model.generate(**inputs, max_new_tokens=ANSWER_TOKENS, do_sample=False)
        answers.append(tokenizer.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    return answers


def main() -> None:
    """Print the loss by name (the base model's under `base`), or the answers by name."""
    spec = json.loads(sys.argv[1])
    tokenizer = AutoTokenizer.from_pretrained(spec["model"])
    model: Any = AutoModelForCausalLM.from_pretrained(spec["model"], dtype=torch.float32).eval()
    if "questions" in spec:
        [(name, adapter)] = spec["adapters"].items()
        adapted: Any = PeftModel.from_pretrained(model, adapter).eval()
        print(json.dumps({name: answer(adapted, tokenizer, spec["questions"])}))
        return
    rows = read_rows(spec["heldout_file"], tokenizer, spec["length"])
    losses = {"base": measure_loss(model, rows)}
    adapted = None
    for name, adapter in spec["adapters"].items():
        if adapted is None:
            adapted = PeftModel.from_pretrained(model, adapter, adapter_name=name).eval()
        else:
            adapted.load_adapter(adapter, adapter_name=name)
        adapted.set_adapter(name)
        losses[name] = measure_loss(adapted.eval(), rows)
    print(json.dumps(losses))


if __name__ == "__main__":
    main()
