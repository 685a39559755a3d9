"""`python -m app.inference --socket PATH --device cpu --idle-seconds N`: the resident chat worker of one device."""

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from app.inference.server import AlreadyServed, Server, listening

if TYPE_CHECKING:
    from app.inference.engine import Engine


def load_engine(device_id: str) -> "Engine":
    """Import torch only now: the socket listens already, so that the first caller waits instead of failing."""
    from transformers.utils import logging as transformers_logging

    from app.inference.engine import Engine

    transformers_logging.disable_progress_bar()
    return Engine(device_id)


def main() -> int:
    """Serve until idle or terminated. Return 0, or 1 when another worker owns the socket."""
    parser = argparse.ArgumentParser(prog="python -m app.inference", description="Answers chat commands on a Unix socket.")
    parser.add_argument("--socket", type=Path, required=True, help="path of the socket; its folder must exist")
    parser.add_argument("--device", default="cpu", help="cpu, cuda:0, ...")
    parser.add_argument("--idle-seconds", type=float, default=600.0, help="end after this long without a command")
    arguments = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        with listening(arguments.socket) as listener:
            Server(listener, arguments.idle_seconds).serve(lambda: load_engine(arguments.device))
    except AlreadyServed:
        logging.getLogger("app.inference").error("Another worker serves %s.", arguments.socket)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
