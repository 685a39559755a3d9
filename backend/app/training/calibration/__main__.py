"""Print one `Calibration` (contracts/calibration.py) as one line of JSON on stdout; failures go to stderr, exit code 1."""

import argparse
import json
import logging
import os
import sys
from pathlib import Path

from app.training.calibration.measure import SECONDS, measure

log = logging.getLogger("app.training.calibration")


def main(argv: list[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m app.training.calibration", description="Measure how fast a device trains.")
    parser.add_argument("--device", default="cpu", help="cpu, cuda:0, ...")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long it may take (default %(default)s)")
    parser.add_argument("--samples", type=Path, help="also write every single time to this file, as JSON")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    # As for a job (see app/training/__main__.py): other threads' spinning would be measured as well.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        found, times = measure(arguments.device, arguments.seconds)
        if arguments.samples:
            arguments.samples.write_text(json.dumps(times), "utf-8")
    except Exception:
        log.exception("the measurement failed")
        return 1
    sys.stdout.write(found.model_dump_json() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
