"""What is trained in a comparison: a model folder, rows in the order in which every trainer takes them, sizes of a step."""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SHARED = Path(__file__).parents[3] / "shared" / "data"
ALPACA = SHARED / "llamafactory" / "alpaca_en_demo.json"
SEED = 0
LEARNING_RATE = 2e-4
RANK = 16


@dataclass(frozen=True)
class Shape:
    """One comparison, as it is asked for."""

    name: str
    model: str
    """`embedded`, `gpt2` (124M, random weights) or a model folder."""
    data: str
    """A file that Affinage can import, or `text`: real text cut into rows of `length` tokens."""
    rows: int
    """Training rows; with several epochs a multiple of `batch`."""
    length: int
    """max_length, tokens."""
    batch: int
    """Rows of an optimizer step."""
    heldout: int = 24
    """Rows that are only measured."""
    epochs: int = 1
    sweep_steps: int = 2
    """Steps of a run that only looks for the best setting."""


SHAPES = (
    Shape("SmolLM2-135M, alpaca rows", "embedded", str(ALPACA), rows=32, length=512, batch=8),
    Shape("GPT-2 124M, alpaca rows", "gpt2", str(ALPACA), rows=24, length=512, batch=8),
    Shape("SmolLM2-135M, rows of 128", "embedded", "text", rows=32, length=128, batch=8),
    Shape("SmolLM2-135M, rows of 512", "embedded", "text", rows=24, length=512, batch=8, heldout=12),
    Shape("SmolLM2-135M, rows of 1024", "embedded", "text", rows=12, length=1024, batch=4, heldout=8),
)
"""The shapes of the published table. TRL's own batch is 8; 4 rows of 1024 tokens are the work of 8 rows of 512."""


@dataclass(frozen=True)
class Workload:
    """A shape whose files are there. Rows have one answer, which comes last."""

    shape: Shape
    folder: Path
    model: Path
    row_tokens: list[int]
    """Tokens of each row of `ordered_file`: the whole rendered conversation, cut at `length`."""
    answer_share: float
    """Share of the tokens that is learned."""

    @property
    def train_file(self) -> Path:
        """The rows for the engine, which orders them itself."""
        return self.folder / "train.jsonl"

    @property
    def ordered_file(self) -> Path:
        """The same rows in the engine's order, epoch after epoch, for trainers that take them one after the other."""
        return self.folder / "ordered.jsonl"

    @property
    def heldout_file(self) -> Path:
        """Rows that nobody trains on."""
        return self.folder / "heldout.jsonl"

    def step_tokens(self) -> list[int]:
        """Return the tokens of each optimizer step."""
        batch, rows = self.shape.batch, self.shape.rows
        epochs = [self.row_tokens[first : first + rows] for first in range(0, len(self.row_tokens), rows)]
        return [sum(epoch[first : first + batch]) for epoch in epochs for first in range(0, rows, batch)]


def prepare(shape: Shape, folder: Path) -> Workload:
    """Write the shape's files below `folder` where they are missing, in a process of its own: it needs torch."""
    target = folder / "workloads" / _slug(shape.name)
    told = json.dumps(asdict(shape))
    ready = target / "workload.json"
    if not ready.exists() or json.loads(ready.read_text("utf-8"))["shape"] != asdict(shape):
        target.mkdir(parents=True, exist_ok=True)
        script = Path(__file__).with_name("prepare.py")
        subprocess.run([sys.executable, str(script), told, str(target), str(folder / "models")], check=True)
    content: dict[str, Any] = json.loads(ready.read_text("utf-8"))
    return Workload(
        shape=shape,
        folder=target,
        model=Path(content["model"]),
        row_tokens=content["row_tokens"],
        answer_share=content["answer_share"],
    )


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower())
