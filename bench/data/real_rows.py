"""Files of any size out of real rows: the first round is as it is, later rounds draw their sentences anew.

So a large file has real words, real lengths and real repetitions (of the first round), and no row that only repeats another.
"""

import csv
import json
import random
import re
from importlib.resources import files
from pathlib import Path

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "llamafactory" / "alpaca_en_demo.json"
"""999 instructions with their answers, where the machine has them."""
_SENTENCE = re.compile(r"[^.!?\n]+[.!?\n]*\s*")
_SEED = 20261123
_DRAWN_BYTES = 50_000_000
"""More are not drawn anew, which takes a minute for a gigabyte."""


def real_rows() -> tuple[str, list[dict[str, str]]]:
    """Return where the rows come from, and the rows: of the field's, else of the sample that comes with Affinage."""
    if SHARED.is_file():
        return SHARED.name, json.loads(SHARED.read_text("utf-8"))
    sample = files("app.assets").joinpath("helpdesk.csv").read_text("utf-8")
    rows = list(csv.DictReader(sample.splitlines()))
    return "helpdesk.csv", [{"instruction": row["question"], "input": "", "output": row["answer"]} for row in rows]


def write_rows(path: Path, size_bytes: int) -> str:
    """Write a JSONL file of at least `size_bytes`; return where its rows come from."""
    source, rows = real_rows()
    chance = random.Random(_SEED)
    sentences = [sentence for row in rows for text in row.values() for sentence in _SENTENCE.findall(text)]
    written = 0
    with path.open("w", encoding="utf-8", buffering=1 << 20) as file:
        first = True
        while written < size_bytes:
            for row in rows:
                values = row if first else {name: _redrawn(text, sentences, chance) for name, text in row.items()}
                line = json.dumps(values, ensure_ascii=False) + "\n"
                written += len(line.encode())
                file.write(line)
                if written >= size_bytes:
                    return source
            first = False
    return source


def write_large(path: Path, size_bytes: int) -> None:
    """Write a JSONL file of at least `size_bytes`: rows as in write_rows, then the same with a number before the question."""
    write_rows(path, min(size_bytes, _DRAWN_BYTES))
    lines = path.read_bytes().splitlines(keepends=True)
    begins, written, number = b'{"instruction": "', path.stat().st_size, 0
    with path.open("ab", buffering=1 << 20) as file:
        while written < size_bytes:
            number += 1
            for line in lines:
                written += file.write(line.replace(begins, b"%b(%d) " % (begins, number), 1))


def _redrawn(text: str, sentences: list[str], chance: random.Random) -> str:
    """Return as many other sentences as a text has."""
    return "".join(chance.choices(sentences, k=len(_SENTENCE.findall(text))))
