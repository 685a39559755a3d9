"""The log of a process: to the terminal, and to a file in the data folder that cannot grow without end."""

import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
FILE_BYTES = 5 << 20
OLD_FILES = 3


def configure_logging(file: Path, level: str) -> None:
    """Send every logger's records of `level` and above to stderr and to `file`."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [
        logging.StreamHandler(),
        RotatingFileHandler(file, maxBytes=FILE_BYTES, backupCount=OLD_FILES, encoding="utf-8"),
    ]
    logging.basicConfig(level=level.upper(), format=FORMAT, handlers=handlers, force=True)
    for chatty in ("httpx", "httpx2", "httpcore", "alembic", "uvicorn.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
