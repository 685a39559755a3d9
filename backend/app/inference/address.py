"""Unix sockets at paths of any length.

The kernel takes at most 107 bytes (`sun_path` in unix(7)). A longer path is reached through an open descriptor of its
folder: `/proc/self/fd/<n>/<name>` is short and names the same file.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST_BYTES = 100


@contextmanager
def short_address(socket_path: Path) -> Iterator[str]:
    """Yield an address for `bind` or `connect`; valid inside the block. Raise FileNotFoundError without the folder."""
    if len(os.fsencode(socket_path)) <= LONGEST_BYTES:
        yield str(socket_path)
        return
    folder = os.open(socket_path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{socket_path.name}"
    finally:
        os.close(folder)
