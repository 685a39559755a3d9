"""llama.cpp reads an exported GGUF file and answers: `python -m app.export.llama_cpp <request.json> <answer.json>`.

A process of its own, because the library (the PyPI package `xllamacpp`) opens a port and ends with the process at the
earliest. The port is bound to loopback and asks for a key that only this process knows.
"""

import importlib.metadata
import importlib.util
import json
import os
import secrets
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.contracts.export import LLAMA_CPP_PACKAGE
from app.contracts.frozen import Frozen

if TYPE_CHECKING:  # they bring PyTorch with them, which this process has no use for
    from app.export.places import PlacedRow, Prompt

LIKELIEST = 300
"""Tokens whose probability is asked for at each place."""
ANSWER_TOKENS = 64
"""Length of the answer whose speed is measured."""
LIMIT_SECONDS = 3600.0


class Asked(Frozen):
    """What the process is to find out."""

    file: str
    context: int
    threads: int
    rows: list[tuple[list[int], list[int]]]
    prompts: list[tuple[list[dict[str, str]] | None, str | None]]
    plain_id: int
    """Any token that is whole text by itself."""


class Answered(Frozen):
    """What it found out."""

    places: list[list[tuple[int, float]]]
    """For each place the likeliest tokens with their log-probabilities, likeliest first."""
    prompts: list[list[int]]
    """The ids of each prompt."""
    tokens_per_second: float


class LlamaCppFailed(Exception):
    """The file could not be read or the process died; the message is its last line."""


def find_version() -> str | None:
    """Return the version of the package; None when it is not installed."""
    return importlib.metadata.version(LLAMA_CPP_PACKAGE) if importlib.util.find_spec(LLAMA_CPP_PACKAGE) is not None else None


def ask(file: Path, rows: "Sequence[PlacedRow]", prompts: "Sequence[Prompt]", plain_id: int, threads: int) -> Answered:
    """Return what llama.cpp says about `file`. Raise LlamaCppFailed."""
    asked = Asked(
        file=str(file),
        context=max([64, *(len(row.ids) for row in rows)]) + ANSWER_TOKENS + 8,
        threads=threads,
        rows=[(row.ids, row.places) for row in rows],
        prompts=[
            ([{"role": turn.role, "content": turn.content} for turn in prompt.messages] if prompt.messages else None, prompt.text)
            for prompt in prompts
        ],
        plain_id=plain_id,
    )
    with tempfile.TemporaryDirectory() as folder:
        request, answer = Path(folder) / "request.json", Path(folder) / "answer.json"
        request.write_text(asked.model_dump_json(), "utf-8")
        try:
            done = subprocess.run(
                [sys.executable, "-m", "app.export.llama_cpp", str(request), str(answer)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=LIMIT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise LlamaCppFailed(f"no answer after {LIMIT_SECONDS:.0f} s") from error
        if not answer.is_file():
            raise LlamaCppFailed(_reason(done.stdout) or f"it ended with code {done.returncode}")
        return Answered.model_validate_json(answer.read_bytes())


def _reason(output: str) -> str:
    """Return the line of the log that says most about a failure: llama.cpp's first error, else the last exception."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if " E " in line and "error" in line]
    raised = [line for line in lines if line.partition(":")[0].endswith("Error")]
    return (errors[:1] or raised[-1:] or lines[-1:] or [""])[0][-300:]


def answer(asked: Asked) -> Answered:
    """Do the work, in the process of its own."""
    import xllamacpp

    key = secrets.token_urlsafe(32)
    params = xllamacpp.CommonParams()
    params.model.path = asked.file
    params.n_ctx = asked.context
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = asked.threads
    params.api_keys = [key]
    params.warmup = False
    params.n_gpu_layers = 0
    server = xllamacpp.Server(params)
    address = server.listening_address

    def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310  its own loopback address
            f"{address}{path}",
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=LIMIT_SECONDS) as reply:  # noqa: S310
            found: dict[str, Any] = json.load(reply)
            return found

    places = [_likeliest(server, ids[:place], asked.plain_id) for ids, chosen in asked.rows for place in chosen]
    prompts = []
    for messages, text in asked.prompts:
        content = post("/apply-template", {"messages": messages})["prompt"] if messages is not None else text
        prompts.append(
            post("/tokenize", {"content": content, "add_special": True, "parse_special": messages is not None})["tokens"]
        )
    started = asked.rows[0][0][: asked.rows[0][1][0]]
    told = server.handle_completions(
        {"prompt": started, "max_tokens": ANSWER_TOKENS, "temperature": 0, "ignore_eos": True, "cache_prompt": True}
    )
    return Answered(places=places, prompts=prompts, tokens_per_second=told["timings"]["predicted_per_second"])


def _likeliest(server: Any, ids: list[int], plain_id: int) -> list[tuple[int, float]]:
    """Return the likeliest tokens after `ids`. Only the last id is new: the others are in the server's cache.

    The answer is made to be `plain_id`, because the server says nothing of an end token or of a part of a character; the
    probabilities that it tells are those before that.
    """
    told = server.handle_completions(
        {
            "prompt": ids,
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": LIKELIEST,
            "n_probs": LIKELIEST,
            "cache_prompt": True,
            "logit_bias": [[plain_id, 1000.0]],
        }
    )
    (step,) = told["choices"][0]["logprobs"]["content"]
    return [(entry["id"], entry["logprob"]) for entry in step["top_logprobs"]]


if __name__ == "__main__":
    found = answer(Asked.model_validate_json(Path(sys.argv[1]).read_bytes()))
    written = Path(sys.argv[2])
    aside = written.with_suffix(".tmp")
    aside.write_text(found.model_dump_json(), "utf-8")
    aside.rename(written)
    sys.stdout.flush()
    os._exit(0)  # the library's threads do not end by themselves
