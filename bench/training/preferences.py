"""`.venv/bin/python bench/training/preferences.py [--json]`: steps of DPO and KTO, micro-batches beside each other and not.

Real preferences (shared/data/llamafactory/dpo_en_demo.json) and the embedded model, in the process that trains. The same steps
are computed with one micro-batch after the other on all cores, as before lanes, and with lanes; the two take turns, so that
a machine whose speed changes is the same for both. Tokens are those of the rows that are learned (both answers of a pair);
what KTO and the reference read besides counts as time alone. SFT on the preferred answers is measured for comparison.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from product import Product
from workload import SEED, SHARED, Shape, Workload

if TYPE_CHECKING:
    from app.contracts.dataset import Example
    from app.datasets.render import Renderer

PAIRS = SHARED / "llamafactory" / "dpo_en_demo.json"
METHODS = ("sft", "dpo", "kto")


def write_job(folder: Path, method: str, rows: int, length: int, batch: int) -> Any:
    """Return the job folder of a run that learns the first `rows` pairs that fit into `length` tokens, by `method`."""
    from app.contracts.dataset import Example
    from app.datasets.importing import import_file
    from app.datasets.render import Renderer
    from app.storage.dataset_dir import DatasetDir
    from app.storage.model_store import ModelStore
    from app.training.embedded import materialise

    work = folder / "preferences" / method
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    model = ModelStore(folder / "data").embedded_folder
    materialise(model)
    renderer = Renderer.load(model)
    every = DatasetDir(work / "every")
    import_file(PAIRS, filename=PAIRS.name, name=None, target=every, mapping=None)
    fitting = [example.row - 1 for example in every.read_examples() if _fits(example, renderer, length)]
    pairs = json.loads(PAIRS.read_text("utf-8"))
    raw = work / "train.json"
    raw.write_text(json.dumps([pairs[place] for place in fitting[:rows]]), "utf-8")
    target = DatasetDir(work / "rows")
    import_file(raw, filename=raw.name, name=None, target=target, mapping=None)
    lines = [Example.model_validate(example).model_dump_json(exclude_none=True) for example in target.read_examples()]
    (work / "train.jsonl").write_text("".join(line + "\n" for line in lines), "utf-8")
    shape = Shape(
        f"preferences {method}",
        "embedded",
        str(PAIRS),
        rows=len(lines),
        length=length,
        batch=batch,
        heldout=0,
    )
    product = Product(folder)
    return product.write_job(Workload(shape, work, model, [], 0.0), work / "job", file=raw, method=method)


def _fits(example: "Example", renderer: "Renderer", length: int) -> bool:
    """Say whether both answers of a pair end within `length` tokens: the product refuses to learn answers without their end."""
    whole = (example.model_copy(update={"messages": turns, "rejected": None}) for turns in (example.messages, example.rejected))
    return all(len(renderer.encode(answered, 1 << 20).ids) <= length for answered in whole)


def measure(folder: Path, method: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return tokens/s of the steps in both ways, and the seconds of the reference's pass over all rows."""
    import torch

    from app.datasets.render import Renderer
    from app.planner.micro_batches import CPU_TOKENS, count_lanes
    from app.training.assembly import assemble
    from app.training.batching import epoch_order
    from app.training.gradient import Computer, Limits
    from app.training.lanes import Lanes
    from app.training.loading import load_model, use_physical_cores
    from app.training.methods.choosing import prepare
    from app.training.rows import encode_rows

    job_dir = write_job(folder, method, arguments.rows, arguments.length, arguments.batch)
    job = job_dir.read_job()
    threads, device = use_physical_cores(), torch.device("cpu")
    torch.manual_seed(SEED)
    renderer = Renderer.load(Path(job.model.path))
    train, heldout = (
        encode_rows(
            file, job_dir.encoded / file.stem, renderer, max_length=arguments.length, long_rows="truncate",
            check_stop=lambda: None, judged=method != "sft",
        )
        for file in (job_dir.train_file, job_dir.heldout_file)
    )  # fmt: skip
    built = assemble(load_model(job, device), job.lora, kind="cpu")
    lanes = count_lanes(threads)
    ways = {"one after the other": Limits(job.optimization.micro_batch_size, CPU_TOKENS)}
    ways["beside each other"] = replace(ways["one after the other"], lanes=lanes)
    limits = replace(ways["beside each other"])
    compute = Computer(
        built.head, built.parameters, device, renderer.pad_id, arguments.length, limits, job_dir, lambda: None,
        lanes=Lanes(lanes, threads),
    )  # fmt: skip
    began = time.perf_counter()
    learned, _ = prepare(job, compute, train, heldout)
    reference_seconds = time.perf_counter() - began
    order = epoch_order(len(learned), SEED, 0)
    steps = [order[start : start + arguments.batch] for start in range(0, len(learned) - arguments.batch + 1, arguments.batch)]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    losses: dict[str, list[float]] = {name: [] for name in ways}
    for number, places in enumerate([steps[0], *steps]):
        for name, way in ways.items():
            limits.rows, limits.tokens, limits.lanes = way.rows, way.tokens, way.lanes
            for parameter in compute.parameters:
                if parameter.grad is not None:
                    parameter.grad.zero_()
            started = time.perf_counter()
            outcome = learned.add_gradient(compute, places)
            if number:  # the first is the warm-up
                seconds[name].append(time.perf_counter() - started)
                print(f"{method}, step {number}, {name}: {seconds[name][-1]:.1f} s", file=sys.stderr, flush=True)
                losses[name].append(outcome.loss)
    tokens = [sum(len(row.ids) for row in learned.rows_of(places)) for places in steps]
    speeds = {name: statistics.median(count / each for count, each in zip(tokens, seconds[name], strict=True)) for name in ways}
    first, second = ways
    return {
        "tokens_per_second": speeds,
        "ratio": statistics.median(a / b for a, b in zip(seconds[first], seconds[second], strict=True)),
        "reference_seconds": reference_seconds,
        "rows": len(train.rows),
        "tokens_per_step": statistics.mean(tokens),
        "losses_differ_by": max(abs(a - b) for a, b in zip(losses[first], losses[second], strict=True)),
    }


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=32, help="pairs")
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--batch", type=int, default=8, help="pairs, or rows, of a step")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(tempfile.gettempdir()) / "affinage-bench-preferences",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    found = {method: measure(arguments.folder.absolute(), method, arguments) for method in arguments.methods}
    if arguments.json:
        print(json.dumps(found))
        return 0
    for method, content in found.items():
        speeds = ", ".join(f"{name} {speed:.0f}" for name, speed in content["tokens_per_second"].items())
        print(
            f"{method}: {speeds} tokens/s ({content['ratio']:.2f}x); {content['rows']} rows, {content['tokens_per_step']:.0f} "
            f"tokens a step; reference {content['reference_seconds']:.1f} s; losses differ by {content['losses_differ_by']:.1e}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
