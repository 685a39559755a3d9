"""`make faults FROM=.. N=..`: run schedules by number and add a line for each to ledger.jsonl; exit code 1 when one fails.

A schedule that fails keeps its data folder, whose path is printed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LEDGER = Path(__file__).with_name("ledger.jsonl")


def main() -> int:
    """Run the schedules; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--count", type=int, default=20)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    from tests.engine.tiny import write_llama
    from tests.faults.faulty_run import FaultyRun
    from tests.faults.schedule import draw

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    workplace = Path(tempfile.mkdtemp(prefix="affinage-faults-"))
    model = write_llama(workplace / "tiny-llama")
    failed = injected = 0
    run: FaultyRun | None = None
    for seed in range(arguments.first, arguments.first + arguments.count):
        if run is None:
            run = FaultyRun(workplace / f"data-{seed}", model, lock_seconds=15.0)
            run.run_undisturbed()
        started, strokes = time.monotonic(), draw(seed)
        try:
            wrong = run.run(seed)
        except (AssertionError, OSError, ValueError) as problem:  # a schedule that cannot end is one that failed
            wrong = [f"{type(problem).__name__}: {problem}"[:500]]
        injected += len(strokes)
        line = {
            "seed": seed,
            "commit": commit,
            "faults": [f"{stroke.fault}@{stroke.at_event}" for stroke in strokes],
            "survived": not wrong,
            "seconds": round(time.monotonic() - started, 1),
            **({"wrong": wrong} if wrong else {}),
        }
        with LEDGER.open("a") as ledger:
            ledger.write(json.dumps(line) + "\n")
        print(seed, "survived" if not wrong else f"FAILED {wrong}", *line["faults"], flush=True)
        if wrong:
            failed += 1
            print(f"  data folder: {run.server.data_dir}", flush=True)
            run.close()
            run = None
    if run is not None:
        run.close()
    print(f"{injected} faults in {arguments.count} schedules: {arguments.count - failed} survived, {failed} lost")
    if not failed:
        shutil.rmtree(workplace)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
