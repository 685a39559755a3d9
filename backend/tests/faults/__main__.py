"""`make faults FROM=.. N=..`: run schedules by number and add a line for each to ledger.jsonl; exit code 1 when one fails.

A fault that found nothing to disturb (its job had ended, or no trainer lived at that instant) is named under `missed` and not
counted; lines older than 23 November 2026 do not say so. A schedule that fails keeps a copy of its data folder, whose path is
printed. Two of these may run side by side.
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
SCHEDULES_TOGETHER = 15
"""In one data folder: the check after each looks at all its jobs."""


def main() -> int:
    """Run the schedules; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no further schedule after so long")
    parser.add_argument("--ledger", type=Path, default=LEDGER)
    parser.add_argument("--jobs", type=int, default=1, help="so many side by side, each with folders, ports and clock of its own")
    parser.add_argument("--warm", action="store_true", help="pass over the schedules whose processes import everything")
    arguments = parser.parse_args()
    if arguments.jobs > 1:
        return share_out(arguments)
    from tests.engine.tiny import write_llama
    from tests.faults.faulty_run import FaultyRun
    from tests.faults.schedule import draw

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    workplace = Path(tempfile.mkdtemp(prefix="affinage-faults-"))
    model = write_llama(workplace / "tiny-llama")
    began = time.monotonic()
    failed = injected = done = 0
    run: FaultyRun | None = None
    cold, left = False, 0
    for seed in range(arguments.first, arguments.first + arguments.count):
        if time.monotonic() - began > arguments.seconds:
            break
        schedule = draw(seed)
        if arguments.warm and schedule.cold:
            continue
        if run is None or left == 0 or schedule.cold != cold:
            if run is not None:
                run.close()
            cold, left = schedule.cold, SCHEDULES_TOGETHER
            run = FaultyRun(workplace / f"run-{seed}", model, cold=cold)
            run.run_undisturbed()
        left -= 1
        started = time.monotonic()
        try:
            wrong = run.run(schedule)
        except (AssertionError, OSError, ValueError) as problem:  # a schedule that cannot end is one that failed
            wrong = [f"{type(problem).__name__}: {problem}"[:800]]
        done += 1
        injected += len(schedule.names) - len(run.missed)
        line = {
            "seed": seed,
            "commit": commit,
            "starts": "cold" if cold else "warm",
            "faults": schedule.names,
            **({"missed": run.missed} if run.missed else {}),
            "survived": not wrong,
            "seconds": round(time.monotonic() - started, 1),
            **({"wrong": wrong} if wrong else {}),
        }
        with arguments.ledger.open("a") as ledger:
            ledger.write(json.dumps(line) + "\n")
        print(seed, "survived" if not wrong else f"FAILED {wrong}", *schedule.names, line["seconds"], flush=True)
        if wrong:
            failed += 1
            kept = shutil.copytree(
                run.server.data_dir, Path(tempfile.gettempdir()) / f"affinage-lost-{seed}-{os.getpid()}",
                ignore=shutil.ignore_patterns("run", "ballast"),
            )  # fmt: skip
            print(f"  data folder: {kept}", flush=True)
            run.close()
            run = None
    if run is not None:
        run.close()
    shutil.rmtree(workplace)
    print(f"{injected} faults in {done} schedules: {done - failed} survived, {failed} lost")
    return 1 if failed else 0


def share_out(arguments: argparse.Namespace) -> int:
    """Give each of several processes as many schedules as the others; return the highest exit code."""
    least, more = divmod(arguments.count, arguments.jobs)
    command = [sys.executable, "-m", "tests.faults", "--seconds", str(arguments.seconds), "--ledger", str(arguments.ledger)]
    command += ["--warm"] if arguments.warm else []
    running, first = [], arguments.first
    for number in range(arguments.jobs):
        count = least + (number < more)
        running.append(subprocess.Popen([*command, "--from", str(first), "--count", str(count)]))
        first += count
    return max(process.wait() for process in running)


if __name__ == "__main__":
    sys.exit(main())
