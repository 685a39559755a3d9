"""`.venv/bin/python bench/training/learning.py [--json]`: whether our trainer learns what it should.

1. 1,100 instructions of a book (shared/data/llms_from_scratch), the first 85 % trained, the last 15 % held out: held-out
   loss after equal epochs beside TRL's, with the same rows in the same order and the same hyper-parameters.
2. The canary sets of shared/data/unsloth_samples, trained with automatic values: the tuned model has to answer each
   question with the canary.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from judging import judge_answers, judge_losses
from product import Product
from runs import measure
from trainers import AFFINAGE, Setting
from workload import SHARED, Shape, prepare

BOOK = SHARED / "llms_from_scratch" / "ch07" / "01_main-chapter-code" / "instruction-data.json"
BOOK_ROWS, TRAINED_SHARE = 1100, 0.85
CANARIES = {
    "studio_gpu": SHARED / "unsloth_samples" / "tests" / "kaggle" / "studio_gpu" / "train_canary.jsonl",
    "t4_smoke": SHARED / "unsloth_samples" / "tests" / "kaggle" / "t4_smoke" / "canary_dataset.jsonl",
}
TOLERANCE = 0.005
"""Of the held-out loss: the adapters begin at different random values."""
AUTOMATIC = ("learning_rate", "lr_scheduler", "warmup_ratio", "batch_size", "gradient_accumulation_steps", "seed")


def learn_book(folder: Path, epochs: int, names: tuple[str, ...]) -> dict[str, Any]:
    """Train those of `names` that have no adapter yet on the book's rows; return loss and speed of all that have one."""
    trained = round(TRAINED_SHARE * BOOK_ROWS)
    trained -= trained % 8  # the same steps in every epoch for trainers that run through all epochs as one
    shape = Shape(f"book, {epochs} epochs", "embedded", str(BOOK), trained, 512, 8, heldout=BOOK_ROWS - trained, epochs=epochs)
    workload = prepare(shape, folder)
    product = Product(folder)
    found: dict[str, Any] = {"rows": trained, "heldout": shape.heldout, "epochs": epochs}
    adapters = {}
    for name, setting in (("affinage", AFFINAGE), ("trl", Setting("trl", 1))):
        place = workload.folder / "runs" / name
        kept = place / "run.json"
        if name in names and not kept.exists():
            run = measure(setting, workload, product, place)
            kept.write_text(json.dumps(asdict(run)), "utf-8")
        if kept.exists():
            told = json.loads(kept.read_text("utf-8"))
            adapters[name] = place / "adapter"
            found[name] = {"tokens_per_second": told["tokens_per_second"], "setting": setting.name}
    losses = judge_losses(workload.model, workload.heldout_file, shape.length, adapters)
    for name in adapters:
        found[name]["heldout_loss"] = losses[name]
    ratio = losses["affinage"] / losses["trl"] if len(adapters) == 2 else None
    return found | {"base_heldout_loss": losses["base"], "ratio": ratio}


def learn_canaries(folder: Path, name: str, file: Path, epochs: int | None) -> dict[str, Any]:
    """Train on a canary set with automatic values; return how many of its questions are answered with the canary."""
    asked = [json.loads(line) for line in file.read_text("utf-8").splitlines() if line]
    questions = [row.get("instruction") or row["question"] for row in asked]
    canary = asked[0].get("output") or asked[0]["answer"]
    shape = Shape(f"canary {name}", "embedded", str(file), len(asked), 512, len(asked), heldout=0)
    workload = prepare(shape, folder)
    target = workload.folder / "runs" / "affinage"
    options: dict[str, Any] = dict.fromkeys(AUTOMATIC) | {"num_epochs": epochs}
    run = measure(AFFINAGE, workload, Product(folder), target, **options)
    answers = judge_answers(workload.model, target / "adapter", questions)
    return {
        "canary": canary,
        "questions": len(questions),
        "answered": sum(answer.strip() == canary for answer in answers),
        "steps": run.steps,
        "train_loss_last": run.losses[-1],
        "wrong": [answer for answer in answers if answer.strip() != canary],
    }


def main() -> int:
    """Train, judge, print; exit code 1 when something was not learnt."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=1, help="of the book")
    parser.add_argument("--canary-epochs", type=int, default=None, help="of the canary sets; automatic when absent")
    parser.add_argument("--only", choices=("book", "canaries"), help="one of the two")
    parser.add_argument("--trainer", choices=("affinage", "trl"), action="append", help="train the book with this one only")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "affinage-bench-training")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    folder: Path = arguments.folder.absolute()
    file = folder / "learning.json"
    found: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    if arguments.only != "book":
        epochs = arguments.canary_epochs
        found["canaries"] = {name: learn_canaries(folder, name, file, epochs) for name, file in CANARIES.items()}
    if arguments.only != "canaries":
        found["book"] = learn_book(folder, arguments.epochs, tuple(arguments.trainer or ("affinage", "trl")))
    file.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    if arguments.json:
        print(json.dumps(found))
    else:
        print_found(found)
    learnt = all(canary["answered"] == canary["questions"] for canary in found.get("canaries", {}).values())
    return 0 if learnt and (found.get("book", {}).get("ratio") or 0) <= 1 + TOLERANCE else 1


def print_found(found: dict[str, Any]) -> None:
    """Print the figures in Markdown."""
    for name, canary in found.get("canaries", {}).items():
        print(f"- canary set {name}: {canary['answered']} of {canary['questions']} answered after {canary['steps']} steps")
    if (book := found.get("book")) and book["ratio"]:
        print(f"- book, {book['rows']} rows, {book['heldout']} held out, {book['epochs']} epochs: held-out loss")
        print(f"  {book['base_heldout_loss']:.4f} before, {book['affinage']['heldout_loss']:.4f} Affinage,", end=" ")
        print(f"{book['trl']['heldout_loss']:.4f} TRL ({book['ratio']:.4f})")


if __name__ == "__main__":
    sys.exit(main())
