"""The scripts in examples/, run as they stand by the official clients against a real server; and another server behind ours."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from tests.api.test_live_server import LiveServer

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"
NODE_MODULES = ROOT / "frontend" / "node_modules"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[LiveServer]:
    server = LiveServer(
        tmp_path_factory.mktemp("examples") / "data",
        model_roots=str(tiny_model.parent),
        openai_models=f"gpt-4o-mini*={tiny_model}",
    )
    server.start()
    yield server
    server.close()


def run(command: list[str], live: LiveServer, folder: Path) -> str:
    environment = {**os.environ, "OPENAI_BASE_URL": f"http://127.0.0.1:{live.port}/v1", "OPENAI_API_KEY": "any"}
    ended = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def find_node() -> str | None:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import node
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    found = node.find_node()
    return str(found) if found else None


def test_the_python_script_trains_and_asks(live: LiveServer, tmp_path: Path) -> None:
    said = run([sys.executable, str(EXAMPLES / "finetune.py")], live, tmp_path)

    assert ":affinage:mail:job-" in said and " says: " in said
    whole = said.split(" says: ", 1)[1].split("\ntokens:")[0]
    assert said.rstrip("\n").endswith(f"streamed: {whole}".rstrip("\n")), "the stream says the same as the whole answer"


def test_the_javascript_script_trains_on_pairs_and_asks(live: LiveServer, tmp_path: Path) -> None:
    node = find_node()
    if node is None or not (NODE_MODULES / "openai").is_dir():
        pytest.skip("Node or its packages are not installed (make setup)")
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)

    said = run([node, "examples/finetune.mjs"], live, tmp_path)

    assert ":affinage:polite:job-" in said and " says: " in said and "streamed: " in said


@pytest.fixture
def upstream() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A second server of ours stands in for vLLM: whatever it is asked is noted, whatever it answers comes back."""
    seen: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b'{"object":"list","data":[{"id":"big-model","object":"model","created":1,"owned_by":"vllm"}]}')

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append({"path": self.path, "key": self.headers["Authorization"], "body": body})
            self._answer(
                b'{"id":"1","object":"chat.completion","created":1,"model":"big-model","choices":[{"index":0,"finish_reason":"stop",'
                b'"message":{"role":"assistant","content":"from upstream","refusal":null}}]}'
            )

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1", seen
    server.shutdown()
    server.server_close()


def test_a_model_that_the_upstream_lists_is_asked_there_with_its_own_key(
    upstream: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    url, seen = upstream
    server = LiveServer(tmp_path / "data", upstream_url=url, upstream_key="secret-upstream-key")
    server.start()
    try:
        client = OpenAI(api_key="callers-own", base_url=f"http://127.0.0.1:{server.port}/v1", max_retries=0)
        question: list[Any] = [{"role": "user", "content": "Hi"}]

        answer = client.chat.completions.create(model="big-model", messages=question, extra_body={"top_k": 5})

        assert answer.choices[0].message.content == "from upstream"
        assert "big-model" in [model.id for model in client.models.list()]
        assert (seen[0]["path"], seen[0]["key"]) == ("/v1/chat/completions", "Bearer secret-upstream-key")
        assert b'"top_k"' in seen[0]["body"], "fields that we do not know are passed on"
        assert "secret-upstream-key" not in server.client.get("/api/settings").text
    finally:
        server.close()
