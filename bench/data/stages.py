"""One stage of the work on a data set, in a process of its own.

`stages.py STAGE FILE FOLDER CORES` prints the stage's figures as JSON. Times begin after its modules are imported.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

OURS = ("app.datasets.importing", "app.datasets.findings.analysing", "app.datasets.tokens")


def read(file: Path, folder: Path) -> dict[str, Any]:
    """Affinage's reader alone: every record, strict about everything."""
    from app.datasets.reading import open_source

    return {"rows": sum(1 for _ in open_source(file, file.name, folder / "decoded").rows())}


def take_in(file: Path, folder: Path) -> dict[str, Any]:
    """What happens between a file and a data set: read, map, exact duplicates, split, write."""
    from app.datasets.importing import import_file
    from app.storage.dataset_dir import DatasetDir

    info = import_file(file, filename=file.name, name=None, target=DatasetDir(folder / "ds"))
    return {"rows": info.rows, "duplicates": info.rows - info.distinct_rows, "problems": info.problem_count}


def analyse(_file: Path, folder: Path) -> dict[str, Any]:
    """The second pass over a data set that `take_in` has made: near duplicates, patterns, languages, lengths."""
    from app.datasets.findings.analysing import analyse
    from app.storage.dataset_dir import DatasetDir

    found = analyse(DatasetDir(folder / "ds"))
    return {"rows": found.rows, "findings": {finding.code: finding.count for finding in found.findings}}


def tokenise(_file: Path, folder: Path) -> dict[str, Any]:
    """Render and tokenise every row of a data set under a model's own template, as the page and the planner do."""
    from app.datasets.tokens import token_counts

    counts = token_counts(folder / "ds" / "rows.jsonl", folder / "model")
    return {"rows": len(counts), "tokens": sum(count.length for count in counts)}


def python_json(file: Path, _folder: Path) -> dict[str, Any]:
    """Python's own parser on the same lines, and nothing else."""
    with file.open("rb") as lines:
        return {"rows": sum(1 for line in lines if json.loads(line))}


def peer_datasets(file: Path, folder: Path) -> dict[str, Any]:
    """The `datasets` library: read the JSON file into its Arrow cache. It maps nothing and looks for no duplicates."""
    import datasets  # type: ignore[import-not-found,unused-ignore]

    datasets.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    began, used = time.perf_counter(), _cpu_seconds()
    table = datasets.load_dataset(
        "json", data_files=str(file), split="train", cache_dir=str(folder / "hf"), download_mode="force_redownload"
    )
    spent = {"seconds": time.perf_counter() - began, "cpu_seconds": _cpu_seconds() - used}
    return {"rows": len(table), "version": datasets.__version__} | spent


STAGES: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    stage.__name__: stage for stage in (read, take_in, analyse, tokenise, python_json, peer_datasets)
}


def main(arguments: list[str]) -> None:
    """Run one stage on so many cores."""
    stage, file, folder = STAGES[arguments[0]], Path(arguments[1]), Path(arguments[2])
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(arguments[3])])
    for module in OURS if stage is not peer_datasets else ():
        __import__(module)
    began, used = time.perf_counter(), _cpu_seconds()
    figures = stage(file, folder)
    figures = {"seconds": time.perf_counter() - began, "cpu_seconds": _cpu_seconds() - used} | figures
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps(figures | {"peak_bytes": peak << 10}))


def _cpu_seconds() -> float:
    """Processor time of this process and of the children that have ended."""
    return sum(
        part.ru_utime + part.ru_stime for part in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


if __name__ == "__main__":
    main(sys.argv[1:])
