"""Run the real command on a terminal of its own, as a person does."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass

_TAKE_TERMINAL = (
    "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)
"""Makes the terminal the controlling one of a new session: only then does Ctrl-C become a signal. What a shell started in the
background is told to ignore it, and so would be everything that it starts."""
_CODE = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)")


@dataclass(frozen=True)
class Session:
    """What a terminal received until the command ended."""

    status: int
    received: str

    @property
    def frames(self) -> list[str]:
        """Every piece of text that was drawn, in order, without colours."""
        return [text for text in re.split(r"[\r\n]+", re.sub(r"\x1b\[\??[0-9;]*[A-Za-z]", "", self.received)) if text.strip()]

    @property
    def screen(self) -> list[str]:
        """The lines that a person is left with; knows the codes that bars use: erase the line, go up."""
        lines, row, column = [""], 0, 0
        for found in _CODE.finditer(self.received):
            count, code, home, down, text = found.groups()
            if code == "A":
                row = max(0, row - int(count or 1))
            elif code == "K":
                lines[row] = "" if count == "2" else lines[row][:column]
            elif home:
                column = 0
            elif down:
                row += 1
                lines += [""] * (row - len(lines) + 1)
            elif text:
                lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
                column += len(text)
        return [line.rstrip() for line in lines if line.strip()]


def run_on_terminal(
    arguments: list[str],
    environment: dict[str, str],
    *,
    columns: int = 100,
    press: Callable[[str], bytes] = lambda _: b"",
    seconds: float = 120,
) -> Session:
    """Run the command to its end. `press` sees what was received so far and returns the keys to press. Raise TimeoutError."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = [sys.executable, "-c", _TAKE_TERMINAL, sys.executable, "-m", "app.cli", *arguments]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env={**environment, "TERM": "xterm-256color"}, start_new_session=True
    )
    os.close(theirs)
    received, end = bytearray(), time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            if not select.select([ours], [], [], 1)[0]:
                continue
            try:
                block = os.read(ours, 1 << 16)
            except OSError:  # Linux: nobody has the other end open any more
                break
            received += block
            if keys := press(received.decode(errors="replace")):
                os.write(ours, keys)
        else:
            raise TimeoutError(received.decode(errors="replace"))
        return Session(process.wait(10), received.decode())
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def main() -> None:
    """Show a session: `python -m tests.cli.on_terminal data check FILE`."""
    session = run_on_terminal(sys.argv[1:], dict(os.environ))
    print(*session.frames, "-" * 40, *session.screen, "-" * 40, f"status {session.status}", sep="\n")


if __name__ == "__main__":
    main()
