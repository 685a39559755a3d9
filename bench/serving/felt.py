"""What a person feels: the same questions over HTTP, through the server and its chat worker, streamed."""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2

sys.path.append(str(Path(__file__).parents[1] / "load"))

from server import Server

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
PAUSE_SECONDS = 0.5


class Felt:
    """A server of the measurement's own, asked as OpenAI's clients ask."""

    def __init__(self, data_dir: Path) -> None:
        self._server = Server(data_dir)
        self._client = httpx2.Client(base_url=f"http://127.0.0.1:{self._server.port}", timeout=120)

    def ask(self, prompt: str, tokens: int) -> tuple[float, float, int]:
        """Return the seconds to the first piece of text, to the end, and how many tokens came."""
        body = {"model": MODEL, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True}
        body |= {"stream_options": {"include_usage": True}}
        began = time.perf_counter()
        first, counted = 0.0, 0
        with self._client.stream("POST", "/v1/completions", json=body) as reply:
            reply.raise_for_status()
            for line in reply.iter_lines():
                if not line.startswith("data: {"):
                    continue
                chunk = json.loads(line.removeprefix("data: "))
                if not first and chunk["choices"] and chunk["choices"][0]["text"]:
                    first = time.perf_counter() - began
                if chunk.get("usage"):
                    counted = chunk["usage"]["completion_tokens"]
        return first, time.perf_counter() - began, counted

    def rate(self, prompts: list[str], tokens: int) -> float:
        """Return tokens a second over all answers, asked at once."""
        time.sleep(PAUSE_SECONDS)
        began = time.perf_counter()
        with ThreadPoolExecutor(len(prompts)) as threads:
            counted = sum(answer[2] for answer in threads.map(lambda prompt: self.ask(prompt, tokens), prompts))
        return counted / (time.perf_counter() - began)

    def first(self, prompt: str) -> float:
        """Return the seconds to the first piece of text of a server that has nothing else to do."""
        time.sleep(PAUSE_SECONDS)
        return self.ask(prompt, 8)[0]

    def close(self) -> None:
        """Stop the server and with it the worker."""
        self._client.close()
        self._server.close()
