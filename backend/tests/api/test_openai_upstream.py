"""Another OpenAI-compatible server behind ours."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from openai import OpenAI
from pydantic import SecretStr

from app.core.settings import Settings
from app.main import create_app
from tests.api.conftest import ADDRESS


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
    settings = Settings(data_dir=tmp_path / "data", upstream_url=url, upstream_key=SecretStr("secret-upstream-key"))
    with TestClient(create_app(settings), base_url=ADDRESS) as server:
        client = OpenAI(
            api_key="callers-own",
            base_url=f"{ADDRESS}/v1",
            http_client=server,  # type: ignore[arg-type]
            max_retries=0,
        )
        question: list[Any] = [{"role": "user", "content": "Hi"}]

        answer = client.chat.completions.create(model="big-model", messages=question, extra_body={"top_k": 5})

        assert answer.choices[0].message.content == "from upstream"
        assert "big-model" in [model.id for model in client.models.list()]
        assert (seen[0]["path"], seen[0]["key"]) == ("/v1/chat/completions", "Bearer secret-upstream-key")
        assert b'"top_k"' in seen[0]["body"], "fields that we do not know are passed on"
        assert "secret-upstream-key" not in server.get("/api/settings").text
