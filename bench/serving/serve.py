"""How fast the chat worker answers: first token, one request beside transformers' `generate`, eight at once, adapters, HTTP.

    .venv/bin/python bench/serving/serve.py [--rounds 5] [--write docs/benchmarks/serving.md]

Everything runs on the embedded model with the machine's own precision, in turns: a round measures each way once, so that a
restless machine hurts all alike, and the ratios are taken within a round. All but the last part (felt.py) in this one process,
which has the environment of a chat worker.
Greedy, 64 tokens an answer; the tokens that would end an answer count as ordinary ones in this process, on both sides, so
that all have the same work. No two questions begin alike: nothing of a prompt is known from the one before.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from felt import Felt
from transformers import AutoModelForCausalLM

from app.contracts.chat import GenerateCommand, Generation
from app.contracts.job import Lora
from app.datasets.render import Renderer
from app.hardware.probe import probe
from app.inference.engine import Engine
from app.services.inference_workers import worker_environment
from app.storage.model_store import EMBEDDED_NAME
from app.training.embedded import materialise
from app.training.lora import LoraLayer, attach, save_adapter

NEW_TOKENS = 64
PARALLEL = 8
ADAPTERS = 4
PROMPT_TOKENS = (16, 64, 128)
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TEXT = ". The lighthouse keeper wrote down every ship that passed, its flag, its cargo and the weather of the hour" * 12
GOALS = {"first": 0.3, "parallel": 4.0, "single": 1.0, "swap": 1.0}
"""Issue 7: seconds to the first token at 128 tokens; times one request; times `generate`; seconds to swap an adapter."""


@dataclass
class Measured:
    """One list of numbers a round."""

    first_seconds: dict[int, list[float]] = field(default_factory=lambda: {size: [] for size in PROMPT_TOKENS})
    generate_rate: list[float] = field(default_factory=list)
    single_rate: list[float] = field(default_factory=list)
    adapted_rate: list[float] = field(default_factory=list)
    parallel_rate: list[float] = field(default_factory=list)
    known_seconds: list[float] = field(default_factory=list)
    """To the first token of a prompt of 128 tokens of which all but the last few were asked before."""
    felt_seconds: list[float] = field(default_factory=list)
    felt_rate: list[float] = field(default_factory=list)
    felt_parallel_rate: list[float] = field(default_factory=list)
    mixed_rate: list[float] = field(default_factory=list)
    swap_seconds: list[float] = field(default_factory=list)


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    if "GLIBC_TUNABLES" not in os.environ:  # read when a process starts: without it answers are slower than a worker gives them
        os.execve(sys.executable, [sys.executable, *sys.argv], worker_environment())
    with TemporaryDirectory(prefix="serving-") as scratch:
        folder = Path(scratch) / "embedded" / EMBEDDED_NAME
        materialise(folder)
        measured = measure(folder, Path(scratch), arguments.rounds)
    page = write_page(measured, arguments.rounds)
    print(page)
    if arguments.write:
        arguments.write.write_text(page, "utf-8")


def measure(folder: Path, scratch: Path, rounds: int) -> Measured:
    """Run every way once a round, after one round that warms up and does not count."""
    engine = Engine("cpu")
    renderer = Renderer.load(folder)
    numbers = count(10)
    list(engine.answer(command(folder, cut_prompt(renderer, 16, numbers), tokens=2), lambda: False))
    resident = engine._resident
    assert resident is not None
    resident.renderer.stop_ids = frozenset()
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=next(resident.model.parameters()).dtype).eval()
    adapters = [write_adapter(folder, scratch / f"adapter-{number}", number) for number in range(ADAPTERS)]
    here = InProcess(engine, folder, renderer, numbers, adapters)
    measured = Measured()
    felt = Felt(scratch / "data")
    try:
        for number in range(rounds + 1):
            kept = measured if number else Measured()
            here.measure(kept)
            ids = torch.tensor([renderer.encode_text(cut_prompt(renderer, 64, numbers))])
            kept.generate_rate.append(time_generate(plain, ids, renderer.pad_id))
            fresh = write_adapter(folder, scratch / f"fresh-{number}", 100 + number)
            kept.swap_seconds.append(time_first(engine, command(folder, cut_prompt(renderer, 16, numbers), fresh, tokens=1)))
            kept.felt_seconds.append(felt.first(cut_prompt(renderer, 128, numbers)))
            kept.felt_rate.append(felt.rate([cut_prompt(renderer, 64, numbers)], NEW_TOKENS))
            kept.felt_parallel_rate.append(felt.rate([cut_prompt(renderer, 64, numbers) for _ in range(PARALLEL)], NEW_TOKENS))
    finally:
        felt.close()
    return measured


@dataclass
class InProcess:
    """The engine of this process, and what to ask it."""

    engine: Engine
    folder: Path
    renderer: Renderer
    numbers: Iterator[int]
    adapters: list[Path]

    def ask(self, size: int, adapter: Path | None = None, tokens: int = NEW_TOKENS) -> GenerateCommand:
        """Return a question that begins as none before."""
        return command(self.folder, cut_prompt(self.renderer, size, self.numbers), adapter, tokens)

    def measure(self, kept: Measured) -> None:
        """Run every way once."""
        for size in PROMPT_TOKENS:
            kept.first_seconds[size].append(time_first(self.engine, self.ask(size, tokens=1)))
        again = self.ask(PROMPT_TOKENS[-1], tokens=1)
        list(self.engine.answer(again, lambda: False))
        kept.known_seconds.append(time_first(self.engine, again))
        kept.single_rate.append(time_answers(self.engine, [self.ask(64)]))
        kept.adapted_rate.append(time_answers(self.engine, [self.ask(64, self.adapters[0])]))
        kept.parallel_rate.append(time_answers(self.engine, [self.ask(64) for _ in range(PARALLEL)]))
        mixed = [None, *self.adapters] * 2
        kept.mixed_rate.append(time_answers(self.engine, [self.ask(64, one) for one in mixed[:PARALLEL]]))


def cut_prompt(renderer: Renderer, tokens: int, numbers: Iterator[int]) -> str:
    """Return a text of so many tokens that begins as none before."""
    text = renderer.decode(renderer.encode_text(f"{next(numbers)}{TEXT}")[:tokens])
    assert len(renderer.encode_text(text)) == tokens, "the cut must not join or split tokens"
    return text


def command(folder: Path, prompt: str, adapter: Path | None = None, tokens: int = NEW_TOKENS) -> GenerateCommand:
    """Return a greedy command."""
    return GenerateCommand(
        target="",
        model_path=str(folder),
        adapter_path=str(adapter) if adapter else None,
        dtype="bfloat16",
        prompt=prompt,
        generation=Generation(max_new_tokens=tokens),
    )


def write_adapter(folder: Path, target: Path, seed: int) -> Path:
    """Write an adapter of rank 16 over all linear layers, with random numbers in it."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    lora = Lora(rank=16, alpha=32, dropout=0.0, target_modules=TARGETS, fan_in_fan_out=False)
    torch.manual_seed(seed)
    attach(model, lora)
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            torch.nn.init.normal_(layer.lora_B, std=0.01)
    save_adapter(model, target, base_model_id=str(folder), lora=lora)
    return target


def time_first(engine: Engine, asked: GenerateCommand) -> float:
    """Return the seconds from the question to the first token."""
    started = time.perf_counter()
    list(engine.answer(asked, lambda: False))
    return time.perf_counter() - started


def time_answers(engine: Engine, asked: list[GenerateCommand]) -> float:
    """Return tokens a second over all answers, reading their prompts included."""
    started = time.perf_counter()
    for one in asked:
        assert engine.can_join(one)
        engine.start(one, lambda: False)
    finished = tokens = 0
    while finished < len(asked):
        for _, delta in engine.step():
            if delta.finished:
                finished += 1
                tokens += delta.tokens
    assert tokens == NEW_TOKENS * len(asked)
    return tokens / (time.perf_counter() - started)


@torch.inference_mode()
def time_generate(model: torch.nn.Module, ids: torch.Tensor, pad_id: int) -> float:
    """Return tokens a second of transformers' own loop, with the thread count that the engine has chosen."""
    started = time.perf_counter()
    answer = model.generate(  # type: ignore[operator]
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS,
        do_sample=False,
        pad_token_id=pad_id,
    )
    assert answer.shape[1] == ids.shape[1] + NEW_TOKENS
    return NEW_TOKENS / (time.perf_counter() - started)


def ratios(over: list[float], under: list[float]) -> str:
    """Return the median of the rounds' ratios, and the smallest and the largest."""
    found = sorted(one / other for one, other in zip(over, under, strict=True))
    return f"{statistics.median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f})"


def write_page(measured: Measured, rounds: int) -> str:
    """Return docs/benchmarks/serving.md."""
    machine = probe(Path("/")).devices[-1]
    rows = [
        f"| first token, prompt of {size} tokens | {statistics.median(found) * 1000:.0f} ms | {max(found) * 1000:.0f} ms |"
        for size, found in measured.first_seconds.items()
    ]
    rates = {
        "transformers' `generate`, one request": measured.generate_rate,
        "one request": measured.single_rate,
        "one request with an adapter": measured.adapted_rate,
        f"{PARALLEL} requests at once": measured.parallel_rate,
        f"{PARALLEL} at once, {ADAPTERS} adapters and the original mixed": measured.mixed_rate,
    }
    speeds = [f"| {name} | {statistics.median(found):.1f} | {min(found):.1f} |" for name, found in rates.items()]
    felt = {
        "one request, over HTTP": measured.felt_rate,
        f"{PARALLEL} requests at once, over HTTP": measured.felt_parallel_rate,
    }
    speeds += [f"| {name} | {statistics.median(found):.1f} | {min(found):.1f} |" for name, found in felt.items()]
    known, first_felt = (
        f"{statistics.median(found) * 1000:.0f} ms | {max(found) * 1000:.0f} ms"
        for found in (measured.known_seconds, measured.felt_seconds)
    )
    swapped = [f"{seconds * 1000:.0f} ms" for seconds in (statistics.median(measured.swap_seconds), max(measured.swap_seconds))]
    return f"""# Serving

What `bench/serving/serve.py` measured: the embedded model (SmolLM2-135M) on {machine.name}, {machine.cores} cores,
torch {torch.__version__}, Python {platform.python_version()}. {rounds} rounds after one that warms up; a round measures every way
once. Programs that wanted a core over the last minute, at the end: {os.getloadavg()[0]:.1f}.
Greedy, {NEW_TOKENS} tokens an answer after a prompt of 64, prompts read within the time, none of them begins like another. Ratios
are taken within a round, so that other work on the machine touches both sides.

| | median | worst |
|---|---|---|
{chr(10).join(rows)}
| the same over HTTP, from the request to the first piece of text | {first_felt} |
| in this process, when the same prompt was asked before | {known} |
| an adapter that was never loaded, to its first token (16 tokens) | {swapped[0]} | {swapped[1]} |

| tokens a second, all answers together | median | worst |
|---|---|---|
{chr(10).join(speeds)}

| ratio within a round | median (range) | goal |
|---|---|---|
| one request over `generate` | {ratios(measured.single_rate, measured.generate_rate)} | >= {GOALS["single"]:.0f} |
| {PARALLEL} at once over one | {ratios(measured.parallel_rate, measured.single_rate)} | >= {GOALS["parallel"]:.0f} |
| {PARALLEL} mixed over one with an adapter | {ratios(measured.mixed_rate, measured.adapted_rate)} | |
| {PARALLEL} at once over one, over HTTP | {ratios(measured.felt_parallel_rate, measured.felt_rate)} | |

Goals of issue 7 besides: the first token within {GOALS["first"] * 1000:.0f} ms for prompts up to 128 tokens, an adapter
within {GOALS["swap"]:.0f} s. A step of all answers is one call of compiled code (`app/training/compiled.py`), each with its own
adapter and the same bits in any company (tests/engine/test_compiled.py). Where the processor has no vectors of 512 bits, or the
model is of another kind, the model's own code does it (`batch.py`; PEFT's own mixed batch gives the same tokens,
tests/engine/test_answers_together.py). No graphics card was measured.
"""


if __name__ == "__main__":
    main()
