"""Asks the judge, which needs torch, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def judge_losses(model: Path, heldout_file: Path, length: int, adapters: dict[str, Path]) -> dict[str, float]:
    """Return the held-out loss (nats per answer token) by name, the base model's under `base`."""
    short = {f"a{place}": name for place, name in enumerate(adapters)}  # names of adapters become names of modules
    folders = {key: str(adapters[name]) for key, name in short.items()}
    told = _ask({"model": str(model), "heldout_file": str(heldout_file), "length": length, "adapters": folders})
    return {short.get(key, key): loss for key, loss in told.items()}


def judge_answers(model: Path, adapter: Path, questions: list[str]) -> list[str]:
    """Return the tuned model's greedy answers."""
    told = _ask({"model": str(model), "questions": questions, "adapters": {"tuned": str(adapter)}})
    answers: list[str] = told["tuned"]
    return answers


def _ask(spec: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).with_name("judge.py")), json.dumps(spec)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    content: dict[str, Any] = json.loads(told)
    return content
