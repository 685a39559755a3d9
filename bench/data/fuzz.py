"""Import damaged and invented files for a time: each is usable or refused with a sentence; nothing else may happen.

    .venv/bin/python bench/data/fuzz.py --seconds 120 --seed 1 --log build/fuzz.jsonl [--write docs/benchmarks/data.md]

Seeds are the odd files of the tests and, where the machine has them, the small files of the field. A child under a limit of
address space works through the files and ends itself where one takes longer than a few seconds. Runs add up in the log;
`--write` puts their sum below the mark of the note. A file that does harm is kept beside the log.
"""

import argparse
import csv
import gzip
import io
import json
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from measure import KEPT
from real_rows import SHARED

ADDRESS_SPACE_BYTES = 2 << 30
FILE_SECONDS = 20
MOST_SEED_BYTES = 200_000
SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".txt", "", ".zip", ".gz", ".xlsx", ".parquet", ".md")
TOKENS = (
    b'"', b'""', b"'", b",", b";", b"\t", b"|", b"\n", b"\r", b"\r\n", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\\",
    b'\\"', b"\\ud800", b"\\u0000", b"{", b"}", b"[", b"]", b":", b"null", b"NaN", b"1e999", b"9" * 5000, b"[" * 2000,
    b'{"a":' * 200,
    b"\xc3", b"\xe2\x80\xa8", b"sep=;\n", b"<html>", b"PK\x03\x04", b"\x1f\x8b", b"PAR1", b"# ", b"=1+1", b" " * 300,
)  # fmt: skip


class Slow(BaseException):
    """A file takes too long. No Exception, so that nothing on the way takes it for its own."""


def read_seeds() -> list[tuple[str, bytes]]:
    """Return names and contents of files to begin with."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "backend"))
    from tests.unit.datasets.odd_files import ALL
    from tests.unit.datasets.other_tools import OTHER_TOOLS

    odds = [*ALL, *OTHER_TOOLS]
    seeds = [(odd.name, odd.content() if callable(odd.content) else odd.content) for odd in odds]
    field = sorted(SHARED.parents[1].rglob("*")) if SHARED.exists() else []
    seeds += [(path.name, path.read_bytes()) for path in field if path.is_file() and path.stat().st_size <= MOST_SEED_BYTES]
    return [(name, content) for name, content in seeds if len(content) <= MOST_SEED_BYTES]


def make_file(chance: random.Random, seeds: list[tuple[str, bytes]]) -> tuple[str, bytes]:
    """Return the name and content of a file: a damaged seed, or a table or a value invented."""
    kind = chance.random()
    if kind < 0.15:
        return f"made{chance.choice(SUFFIXES)}", _invent_table(chance)
    if kind < 0.3:
        return f"made{chance.choice(SUFFIXES)}", _invent_rows(chance)
    name, content = chance.choice(seeds)
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        chance.choice(DAMAGES)(chance, data, seeds)
    if chance.random() < 0.05:
        data = bytearray(gzip.compress(bytes(data)))
        chance.choice(DAMAGES)(chance, data, seeds)
    if chance.random() < 0.2:
        name = f"{Path(name).stem}{chance.choice(SUFFIXES)}"
    return name or "file", bytes(data)


def _flip(chance: random.Random, data: bytearray, _seeds: list[tuple[str, bytes]]) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _cut(chance: random.Random, data: bytearray, _seeds: list[tuple[str, bytes]]) -> None:
    start = chance.randrange(len(data) + 1)
    del data[start : start + chance.choice((1, 2, 10, 100, len(data)))]


def _repeat(chance: random.Random, data: bytearray, _seeds: list[tuple[str, bytes]]) -> None:
    start = chance.randrange(len(data) + 1)
    piece = data[start : start + chance.choice((1, 8, 64, 512))]
    data[start:start] = piece * chance.choice((1, 2, 50))


def _insert(chance: random.Random, data: bytearray, _seeds: list[tuple[str, bytes]]) -> None:
    start = chance.randrange(len(data) + 1)
    data[start:start] = chance.choice(TOKENS)


def _splice(chance: random.Random, data: bytearray, seeds: list[tuple[str, bytes]]) -> None:
    other = chance.choice(seeds)[1]
    data[chance.randrange(len(data) + 1) :] = other[chance.randrange(len(other) + 1) :]


def _encode(chance: random.Random, data: bytearray, _seeds: list[tuple[str, bytes]]) -> None:
    data[:] = data.decode("utf-8", "replace").encode(
        chance.choice(("utf-16", "utf-16-be", "utf-32", "cp1252", "utf-7")), "replace"
    )


DAMAGES: tuple[Callable[[random.Random, bytearray, list[tuple[str, bytes]]], None], ...] = (
    _flip, _flip, _cut, _repeat, _insert, _insert, _splice, _encode,
)  # fmt: skip


def _invent_text(chance: random.Random) -> str:
    pieces = ("a", "Où ?", " ", "\n", '"', ",", ";", "\t", "\r", "'", "é", "\ud800", "\u2028", "👩‍🚀", "{", "[", "user", "0", "=")
    return "".join(chance.choices(pieces, k=chance.choice((0, 1, 3, 12, 80))))


def _invent_table(chance: random.Random) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(
        buffer,
        delimiter=chance.choice(",;\t|:^~ "),
        quotechar=chance.choice("\"'"),
        quoting=chance.choice((csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC)),
        lineterminator=chance.choice(("\n", "\r\n", "\r")),
    )
    width = chance.choice((1, 2, 3, 9))
    if chance.random() < 0.7:
        writer.writerow(chance.choices(("question", "answer", "text", "prompt", "label", "", "id"), k=width))
    for _ in range(chance.choice((0, 1, 5, 60))):
        writer.writerow([_invent_text(chance) for _ in range(width if chance.random() < 0.95 else chance.randrange(6))])
    return buffer.getvalue().encode(chance.choice(("utf-8", "utf-8-sig", "utf-16", "cp1252")), "replace")


def _invent_value(chance: random.Random, depth: int) -> Any:
    kind = chance.randrange(9 if depth else 6)
    if kind < 4:
        return _invent_text(chance)
    if kind < 6:
        return chance.choice((None, True, False, 0, -1.5, 1e308, 2**70, "yes"))
    if kind < 8:
        return {chance.choice(KEYS): _invent_value(chance, depth - 1) for _ in range(chance.randrange(4))}
    return [_invent_value(chance, depth - 1) for _ in range(chance.randrange(4))]


KEYS = (
    "instruction",
    "input",
    "output",
    "messages",
    "role",
    "content",
    "from",
    "value",
    "conversations",
    "chosen",
    "rejected",
    "text",
)


def _invent_rows(chance: random.Random) -> bytes:
    keys = chance.choices(KEYS, k=3)
    rows = [{key: _invent_value(chance, 3) for key in keys} for _ in range(chance.choice((1, 3, 60)))]
    plain = chance.random() < 0.5
    if chance.random() < 0.5:
        text = json.dumps(rows, ensure_ascii=plain)
    else:
        text = "\n".join(json.dumps(row, ensure_ascii=plain) for row in rows)
    return text.encode("utf-8", "surrogatepass" if chance.random() < 0.1 else "replace")


def work(seconds: float, seed: int, kept: Path) -> None:
    """Import files for a time and print the figures. The child."""
    from app.core.errors import AffinageError
    from app.datasets.importing import import_file, read_rows
    from app.storage.dataset_dir import DatasetDir

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))

    def give_up(*_: object) -> NoReturn:
        raise Slow

    signal.signal(signal.SIGALRM, give_up)
    seeds, counts, slowest = read_seeds(), Counter[str](), 0.0
    began, number = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="affinage-fuzz-") as name:
        file, target = Path(name) / "file", DatasetDir(Path(name) / "ds")
        while time.monotonic() - began < seconds:
            number += 1
            title, content = make_file(random.Random(f"{seed} {number}"), seeds)
            file.write_bytes(content)
            started = time.monotonic()
            signal.alarm(FILE_SECONDS)
            try:
                import_file(file, filename=title, name=None, target=target)
                read_rows(target, 0, 5)
                counts["usable"] += 1
            except AffinageError as error:
                assert all(all(error.text(language)) for language in ("en", "fr")), error.key
                counts["refused"] += 1
            except Slow:
                _keep(kept, seed, number, title, content, "slow", counts)
            except Exception as error:  # noqa: BLE001 - what is looked for
                _keep(kept, seed, number, title, content, repr(error), counts)
            finally:
                signal.alarm(0)
            slowest = max(slowest, time.monotonic() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    print(json.dumps({"files": number, **counts, "slowest_seconds": round(slowest, 3), "peak_bytes": peak}))


def _keep(folder: Path, seed: int, number: int, title: str, content: bytes, reason: str, counts: Counter[str]) -> None:  # noqa: PLR0917
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{seed}-{number}-{title.replace('/', '_')}").write_bytes(content)
    sys.stderr.write(f"{seed} {number} {title!r}: {reason}\n")
    counts["harmful"] += 1


def show(runs: list[dict[str, Any]]) -> str:
    """Return the sum of runs as a paragraph."""
    seconds, files = sum(run["seconds"] for run in runs), sum(run["files"] for run in runs)
    usable, refused, harmful = (sum(run.get(name, 0) for run in runs) for name in ("usable", "refused", "harmful"))
    ended = sum(run["ended"] for run in runs)
    slowest, peak = (max(run[name] for run in runs) for name in ("slowest_seconds", "peak_bytes"))
    return "\n".join([
        f"**Fuzzing** (bench/data/fuzz.py): {files:,} damaged and invented files in {seconds / 60:.1f} minutes, on a shared",
        f"machine: {usable:,} usable, {refused:,} refused with a sentence in both languages; {harmful} crashed or took",
        f"more than {FILE_SECONDS} s,",
        f"{ended} ended the process (limit: {ADDRESS_SPACE_BYTES >> 30} GiB of address space). Slowest",
        f"file {slowest:.2f} s; peak memory {peak / 1e6:.0f} MB.",
        "",
    ])  # fmt: skip


def main() -> None:
    """Run a child, note its figures, write the sum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    kept = asked.log.with_suffix(".kept")
    if asked.work:
        work(asked.seconds, asked.seed, kept)
        return
    if asked.seconds:
        began = time.monotonic()
        done = subprocess.run([sys.executable, *sys.argv, "--work"], stdout=subprocess.PIPE, check=False)
        figures = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"files": 0}
        figures = {"slowest_seconds": 0.0, "peak_bytes": 0, "seed": asked.seed} | figures
        figures |= {"seconds": time.monotonic() - began, "ended": int(done.returncode != 0)}
        with asked.log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(figures) + "\n")
        print(figures)
    if asked.write:
        note = asked.write.read_text("utf-8").partition(KEPT)[0].rstrip() if asked.write.exists() else ""
        text = show([json.loads(line) for line in asked.log.read_text("utf-8").splitlines()])
        asked.write.write_text(f"{note}\n\n{KEPT}\n\n{text}", "utf-8")


if __name__ == "__main__":
    main()
