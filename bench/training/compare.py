"""`.venv/bin/python bench/training/compare.py [--json]`: our trainer beside TRL + PEFT and a plain transformers + PEFT loop.

The same rows in the same order, max_length, effective batch, adapter and learning rate; every trainer in a process of its
own, in the same environment. First the best setting of each peer is searched (micro-batch, then every other switch, one
at a time); then the finalists run in turns. Speed is real tokens per second after the first step; memory the resident
peak of the process; the held-out loss is measured by one judge. Finished runs are kept in results.json and not repeated:
--minutes stops in between (exit code 75), the same command goes on.

--capped: one round of finals, a disturbed run is done again once, and on the shapes after the first only the micro-batches
next to the best one there are tried. Which settings were tried is in the tables, and how many runs a figure has.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from judging import judge_losses
from product import Product
from runs import Results, Run, make_trl_python, measure
from table import describe_machine, summarise, write_document
from trainers import AFFINAGE, Setting, Trainer, as_it_comes, combine, list_micro_batches, list_neighbours, list_variations
from workload import SHAPES, Shape, Workload, prepare

from app.jobs.executors.environment import trainer_environment

MORE_TO_DO = 75
"""Exit code (sysexits.h: temporary failure, try again)."""
PEERS: tuple[Trainer, ...] = ("trl", "plain")
AGAIN = 2
"""Times that a disturbed run is done again before it counts all the same."""


class OutOfTime(Exception):
    """The minutes are over; nothing is lost."""


class Comparison:
    """Runs what is missing in the results, in an order that keeps the finalists interleaved."""

    def __init__(self, folder: Path, results: Results, deadline: float, again: int = AGAIN, *, calm: bool = False) -> None:
        self.folder = folder
        self.results = results
        self.product = Product(folder)
        self._deadline, self._again, self._calm = deadline, again, calm

    def run(self, stage: str, setting: Setting, workload: Workload, *, steps: int | None = None) -> Run:
        """Measure one run and keep it; one beside which other processes worked is kept apart and done again.

        Raise OutOfTime where only calm runs count and this one never was.
        """
        for _ in range(1 + self._again):
            if time.monotonic() > self._deadline:
                raise OutOfTime
            run = measure(setting, workload, self.product, find_run_folder(workload, setting.name), steps=steps)
            if not run.disturbed:
                break
            taken = f"{run.others_cores:.2f} cores by others here, {run.stolen_cores:.2f} by other guests"
            print(f"disturbed ({taken}): {setting.name}", file=sys.stderr)
            self.results.add(f"disturbed {stage}", setting.name, run)
        if run.disturbed and self._calm:
            raise OutOfTime
        self.results.add(stage, setting.name, run)
        print(f"{stage} | {setting.name}: {run.tokens_per_second:.0f} tokens/s, {run.peak_bytes / 1e9:.2f} GB", file=sys.stderr)
        return run

    def search(self, workload: Workload) -> list[Setting]:
        """Return the fastest setting of each peer: micro-batch, then every switch, then those that helped most together."""
        batch = workload.shape.batch
        best: list[Setting] = []
        for peer in PEERS:
            speeds = self._try(workload, list_micro_batches(Setting(peer), batch))
            base = max(speeds, key=speeds.__getitem__)
            speeds |= self._try(workload, list_variations(base, batch))
            better = sorted((s for s in speeds if speeds[s] > speeds[base]), key=lambda s: -speeds[s])
            if len(better) > 1:
                speeds |= self._try(workload, [combine(base, better[:2])])
            best.append(max(speeds, key=speeds.__getitem__))
        return best

    def adjust(self, workload: Workload, known: list[Setting], *, capped: bool) -> list[Setting]:
        """Return the fastest setting of each peer, with the switches of `known`: the micro-batch and packing are searched."""
        best = []
        list_sizes = list_neighbours if capped else list_micro_batches
        for switches in known:
            packed = [switches] if switches.packing and workload.shape.data != "text" else []
            speeds = self._try(workload, [*list_sizes(switches, workload.shape.batch), *packed])
            best.append(max(speeds, key=speeds.__getitem__))
        return best

    def _try(self, workload: Workload, settings: list[Setting]) -> dict[Setting, float]:
        """Return tokens/s of each setting, in one short run."""
        stage, speeds = f"search {workload.shape.name}", {}
        for setting in settings:
            runs = self.results.find(stage, setting.name)
            run = runs[0] if runs else self.run(stage, setting, workload, steps=workload.shape.sweep_steps)
            speeds[setting] = run.tokens_per_second
        return speeds

    def run_finalists(self, workload: Workload, finalists: list[Setting], repeats: int) -> None:
        """Run the finalists in turns, the machine's peak measured in each round."""
        stage = f"final {workload.shape.name}"
        for number in range(repeats):
            for setting in finalists:
                if len(self.results.find(stage, setting.name)) <= number:
                    self.run(stage, setting, workload)
            peaks = self.results.values.setdefault(f"peak {workload.shape.name}", [])
            if len(peaks) <= number:
                script = Path(__file__).with_name("peak.py")
                told = subprocess.run([sys.executable, str(script)], check=True, capture_output=True, text=True).stdout
                peaks.append(float(told))
                self.results.save()

    def judge(self, workload: Workload, finalists: list[Setting]) -> None:
        """Measure the held-out loss of the finalists' adapters, all with the same code."""
        key = f"loss {workload.shape.name}"
        known: dict[str, float] = self.results.values.get(key, {})
        names = [setting.name for setting in finalists if setting.name not in known]
        if not names:
            return
        if time.monotonic() > self._deadline:
            raise OutOfTime
        adapters = {name: find_run_folder(workload, name) / "adapter" for name in names}
        losses = judge_losses(workload.model, workload.heldout_file, workload.shape.length, adapters)
        self.results.put(key, known | losses)

    def profile(self, workload: Workload) -> None:
        """Look where the time of our own steps goes."""
        key = f"profile {workload.shape.name}"
        if key in self.results.values:
            return
        if time.monotonic() > self._deadline:
            raise OutOfTime
        folder = find_run_folder(workload, "profile")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        job = self.product.write_job(workload, folder / "job")
        command = [sys.executable, str(Path(__file__).with_name("hot_spots.py")), str(job.path), "--json"]
        told = subprocess.run(command, env=trainer_environment(), check=True, capture_output=True, text=True).stdout
        self.results.put(key, json.loads(told.splitlines()[-1]))


def find_run_folder(workload: Workload, name: str) -> Path:
    """Return where the last run of a setting lies."""
    return workload.folder / "runs" / "".join(letter if letter.isalnum() else "-" for letter in name)


def compare(
    comparison: Comparison, shape: Shape, *, repeats: int, quick: bool, capped: bool, search_only: bool, again: bool
) -> None:
    """Do everything for one shape that the results do not hold yet.

    All switches are searched on the first of the published shapes; the others start from what was best there.
    """
    workload = prepare(shape, comparison.folder)
    comparison.results.put(
        f"workload {shape.name}", {**asdict(shape), "tokens": sum(workload.row_tokens), "answers": workload.answer_share}
    )
    if quick:
        best = [Setting(peer, 1) for peer in PEERS]
    elif shape in SHAPES[1:]:
        best = comparison.adjust(workload, comparison.search(prepare(SHAPES[0], comparison.folder)), capped=capped)
    else:
        best = comparison.search(workload)
    if search_only:
        return
    finalists = [AFFINAGE, *best, *([] if quick else [as_it_comes(shape.batch)])]
    if again:
        # The peers' too: the machine is not as fast today as it was then, so only runs in turns can be compared.
        comparison.results.runs.pop(f"final {shape.name}", None)
        for kind in ("peak", "loss", "profile"):
            comparison.results.values.pop(f"{kind} {shape.name}", None)
    comparison.run_finalists(workload, finalists, repeats)
    comparison.judge(workload, finalists)
    comparison.profile(workload)


def main() -> int:
    """Measure what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model folder, `embedded` or `gpt2`; with the four below: one shape of your own")
    parser.add_argument("--data", help="a file that Affinage can import, or `text`: rows of --length tokens cut out of texts")
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--length", type=int, default=512, help="max_length, tokens")
    parser.add_argument("--batch", type=int, default=8, help="rows of an optimizer step")
    parser.add_argument("--only", default="", help="of the published shapes those whose name contains this")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one shape, one round, no search: the peers with micro-batch 1")
    parser.add_argument("--search-only", action="store_true", help="look for the peers' best settings only")
    parser.add_argument("--capped", action="store_true", help="one round, and a shorter search on the shapes after the first")
    parser.add_argument("--again", action="store_true", help="forget the finals, not the search: after a change to the engine")
    parser.add_argument("--calm", action="store_true", help="stop (exit code 75) where a run stays disturbed: it does not count")
    parser.add_argument("--minutes", type=float, default=1e6, help="start nothing new after this")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "affinage-bench-training")
    parser.add_argument("--write", type=Path, help="also write the tables into this Markdown file")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    arguments = parser.parse_args()
    folder: Path = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    shapes = [shape for shape in SHAPES if arguments.only in shape.name][: 1 if arguments.quick else None]
    if arguments.model or arguments.data:
        model, data = arguments.model or "embedded", arguments.data or "text"
        name = f"{Path(model).name}, {Path(data).name}, {arguments.rows} rows of {arguments.length}, batch {arguments.batch}"
        shapes = [Shape(name, model, data, arguments.rows, arguments.length, arguments.batch)]
    results = Results(folder / ("quick.json" if arguments.quick else "results.json"))
    results.values["machine"] = describe_machine(make_trl_python(folder))
    deadline = time.monotonic() + 60 * arguments.minutes
    comparison = Comparison(folder, results, deadline, again=1 if arguments.capped else AGAIN, calm=arguments.calm)
    ended = finish(
        lambda: [
            compare(
                comparison,
                shape,
                repeats=1 if arguments.quick or arguments.capped else arguments.repeats,
                quick=arguments.quick,
                capped=arguments.capped,
                search_only=arguments.search_only,
                again=arguments.again,
            )
            for shape in shapes
        ]
    )
    tables = write_document(results, folder)
    if arguments.json:
        print(json.dumps(summarise(results)))
    else:
        print(tables)
    if arguments.write:
        arguments.write.write_text(tables, "utf-8")
    return 0 if ended else MORE_TO_DO


def finish(work: Callable[[], object]) -> bool:
    """Do `work`; return whether it came to its end in time."""
    try:
        work()
    except OutOfTime:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
