"""Another OpenAI-compatible server behind ours."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
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
            self._answer(
                b'{"object":"list","data":[{"id":"big-model"},{"id":"acme/Large-7B"},{"id":"HuggingFaceTB/SmolLM2-135M-Instruct"}]}'
            )

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


def test_what_the_upstream_may_understand_is_not_judged_here(upstream: tuple[str, list[dict[str, Any]]], tmp_path: Path) -> None:
    url, seen = upstream
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    asked = {
        "model": "big-model",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, picture]}],
        "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}],
        "response_format": {"type": "json_object"},
        "logit_bias": {"5": -100},
        "n": 64,
        "temperature": 3.5,
    }
    with TestClient(create_app(Settings(data_dir=tmp_path / "data", upstream_url=url)), base_url=ADDRESS) as server:
        answer = server.post("/v1/chat/completions", json=asked)
        here = server.post("/v1/chat/completions", json={**asked, "model": "gpt-4o-mini"})

        assert answer.status_code == 200
        assert json.loads(seen[0]["body"]) == asked
        assert here.status_code == 400, "a model of ours cannot follow this"
        assert len(seen) == 1


def test_a_model_of_the_hub_is_asked_upstream_unless_its_weights_are_here(
    upstream: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    url, seen = upstream
    asked = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 0}
    with TestClient(create_app(Settings(data_dir=tmp_path / "data", upstream_url=url)), base_url=ADDRESS) as server:
        owners = {model["id"]: model["owned_by"] for model in server.get("/v1/models").json()["data"]}
        answers = {
            name: server.post("/v1/chat/completions", json={**asked, "model": name}).status_code
            for name in ("acme/Large-7B", "HuggingFaceTB/SmolLM2-135M-Instruct")
        }

    assert answers == {"acme/Large-7B": 200, "HuggingFaceTB/SmolLM2-135M-Instruct": 400}
    assert [json.loads(request["body"])["model"] for request in seen] == ["acme/Large-7B"]
    assert owners["acme/Large-7B"] == "upstream"
    assert owners["HuggingFaceTB/SmolLM2-135M-Instruct"] == "local"


def test_an_upstream_that_went_away_and_a_body_that_is_no_json_are_told(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", upstream_url="http://127.0.0.1:9/v1")
    with TestClient(create_app(settings), base_url=ADDRESS) as server:
        assert server.post("/v1/chat/completions", json={"model": "big-model", "messages": []}).status_code in (400, 404)
        for body in (b"{", b"[]", b'"big-model"', b'{"model": 5}', b"\xff"):
            answer = server.post("/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code == 400
            assert answer.json()["error"]["type"] == "invalid_request_error"


def test_those_who_ask_while_the_first_list_is_on_its_way_wait_for_it(
    upstream: tuple[str, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, seen = upstream
    body = {"model": "big-model", "messages": [{"role": "user", "content": "Hi"}]}
    asked: list[float] = []
    answer = httpx2.Client.get

    def answer_slowly(client: httpx2.Client, address: str, **more: Any) -> httpx2.Response:
        if address.startswith(url):
            asked.append(time.monotonic())
            time.sleep(0.5)
        return answer(client, address, **more)

    monkeypatch.setattr(httpx2.Client, "get", answer_slowly)
    app = create_app(Settings(data_dir=tmp_path / "data", upstream_url=url))
    with TestClient(app, base_url=ADDRESS) as server, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: server.post("/v1/chat/completions", json=body).status_code, range(4)))
    assert answers == [200] * 4
    assert len(asked) == 1 and len(seen) == 4


def test_an_upstream_that_takes_the_question_and_says_nothing_keeps_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.services.upstream.LIST_ANSWER_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        began = time.monotonic()
        with TestClient(create_app(Settings(data_dir=tmp_path / "data", upstream_url=url)), base_url=ADDRESS) as server:
            assert server.get("/v1/models").status_code == 200
        assert time.monotonic() - began < 30
