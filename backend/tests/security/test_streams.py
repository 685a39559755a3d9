"""Streams of a real server that asks for credentials: refused to strangers, ended when the token is revoked, and not before.

Each kind of stream is opened with two tokens and lasts as long as the test: a job that trains, answers that wait for its device,
and an upstream server that never comes to an end. One token is revoked.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest

from app.api.streams import RECHECK_SECONDS
from app.core.settings import Settings
from app.services.access_service import Access
from tests.api.conftest import dataset_id
from tests.api.test_live_server import LiveServer
from tests.engine.tiny import write_llama

PATIENCE_SECONDS = 120.0
ENDED = ("succeeded", "failed", "cancelled")
PIECE = b'data: {"choices": [{"index": 0, "delta": {"content": "more "}}]}\n\n'
QUESTION = [{"role": "user", "content": "Hi"}]


@dataclass
class Endless:
    """A server that lists one model, and never stops answering."""

    address: str
    left: list[float] = field(default_factory=list)
    """When those who asked had gone, by the monotonic clock."""


@pytest.fixture(scope="module")
def endless() -> Iterator[Endless]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._begin("application/json")
            self.wfile.write(b'{"object": "list", "data": [{"id": "endless"}]}')

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._begin("text/event-stream")
            try:
                while True:
                    self.wfile.write(PIECE)
                    time.sleep(0.1)
            except OSError:
                made.left.append(time.monotonic())

        def _begin(self, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()  # HTTP/1.0: the body ends with the connection

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made = Endless(f"http://127.0.0.1:{server.server_address[1]}/v1")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


@dataclass
class Streams:
    """The server, its door, and every stream that it has: method, address and body."""

    live: LiveServer
    access: Access
    requests: dict[str, tuple[str, str, dict[str, Any] | None]]
    training: str


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory, endless: Endless) -> Iterator[Streams]:
    folder = tmp_path_factory.mktemp("streams")
    model = write_llama(folder / "models" / "tiny")
    live = LiveServer(
        folder / "data", model_roots=str(model.parent), trace_plans="false", require_token="true", upstream_url=endless.address
    )
    access = Access(Settings(data_dir=live.data_dir))
    token = access.create("owner", None)[1]
    live.client.headers["Authorization"] = f"Bearer {token}"
    live.start()
    try:
        body = {"dataset_id": dataset_id(live.client), "model_name": str(model), "report_rows": 0}
        tuned = start(live, {**body, "num_epochs": 1}, ENDED)
        assert live.client.get(f"/api/jobs/{tuned}").json()["status"] == "succeeded"
        # On an idle machine a hundred steps take a second: it must outlast the test.
        training = start(live, {**body, "num_epochs": 1000, "batch_size": 1}, ("running",))
        data, chat = body["dataset_id"], {"messages": QUESTION, "stream": True}
        several = [{"job_id": tuned}, {"model": str(model)}]
        yield Streams(
            live,
            access,
            {
                "events of a job": ("GET", f"/api/jobs/{training}/events", None),
                "chat with a job": ("POST", f"/api/jobs/{tuned}/chat", {"prompt": "Hi"}),
                "chat with several": (
                    "POST",
                    "/api/chat",
                    {"targets": several, "prompt": "Hi"},
                ),
                "trial of a data set": ("POST", f"/api/datasets/{data}/trial", {"model_name": str(model)}),
                "/v1 chat": ("POST", "/v1/chat/completions", {"model": tuned, **chat}),
                "/v1 completion": ("POST", "/v1/completions", {"model": tuned, "prompt": "Hi", "stream": True}),
                "/v1 chat of the upstream": ("POST", "/v1/chat/completions", {"model": "endless", **chat}),
            },
            training,
        )
        live.client.post(f"/api/jobs/{training}/cancel")
    finally:
        live.close()


def start(live: LiveServer, body: dict[str, Any], until: tuple[str, ...]) -> str:
    """Start a job and wait until its status is one of `until`."""
    answer = live.client.post("/api/start-finetuning", json=body)
    assert answer.status_code == 201, answer.text
    job_id: str = answer.json()["job_id"]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (job := live.client.get(f"/api/jobs/{job_id}").json())["status"] not in until:
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
    return job_id


class Reader(threading.Thread):
    """Reads one stream; notes when pieces came and how it ended."""

    def __init__(self, streams: Streams, name: str, token: str) -> None:
        super().__init__(name=name, daemon=True)
        self._request = streams.requests[name]
        self._client = httpx2.Client(
            base_url=streams.live.client.base_url, timeout=60, headers={"Authorization": f"Bearer {token}"}
        )
        self.status: int | None = None
        self.last_piece: float | None = None
        self.ended: str | None = None

    def run(self) -> None:
        method, path, body = self._request
        try:
            with self._client.stream(method, path, json=body) as answer:
                self.status = answer.status_code
                for _ in answer.iter_raw():
                    self.last_piece = time.monotonic()
            self.ended = "well"
        except httpx2.HTTPError as problem:
            self.ended = f"{type(problem).__name__}: {problem}"

    def close(self) -> None:
        self._client.close()


def test_no_stream_is_opened_without_a_credential(streams: Streams, endless: Endless) -> None:
    with httpx2.Client(base_url=streams.live.client.base_url) as stranger:
        for name, (method, path, body) in streams.requests.items():
            for headers in ({}, {"Authorization": "Bearer afn_0000000000000000_x"}, {"Accept": "text/event-stream"}):
                answer = stranger.request(method, path, json=body, headers=headers)
                assert answer.status_code == 401, (name, answer.text)
                assert "data:" not in answer.text and PIECE.decode() not in answer.text
    assert endless.left == [], "nobody was passed on"


def test_every_stream_ends_when_its_token_is_revoked_and_the_others_go_on(streams: Streams, endless: Endless) -> None:
    record, revoked_token = streams.access.create("revoked", None)
    kept_token = streams.access.create("kept", None)[1]
    revoked = [Reader(streams, name, revoked_token) for name in streams.requests]
    kept = [Reader(streams, name, kept_token) for name in streams.requests]
    for reader in (*revoked, *kept):
        reader.start()
    wait(lambda: all(reader.last_piece is not None or reader.ended for reader in (*revoked, *kept)))
    assert {(reader.name, reader.status, reader.ended) for reader in (*revoked, *kept)} == {
        (name, 200, None) for name in streams.requests
    }
    time.sleep(RECHECK_SECONDS + 1)  # looked at once at least, and found in order
    assert not [(reader.name, reader.ended) for reader in (*revoked, *kept) if reader.ended]

    answer = streams.live.client.delete(f"/api/tokens/{record.id}")
    assert answer.status_code == 204
    at = time.monotonic()
    for reader in revoked:
        reader.join(PATIENCE_SECONDS)
    took = time.monotonic() - at
    assert [(reader.name, reader.ended) for reader in revoked] == [(name, "well") for name in streams.requests]
    assert took < 2 * RECHECK_SECONDS + 5, f"{took:.1f} s on a machine that trains meanwhile"
    wait(lambda: len(endless.left) == 1)  # the upstream does not write on for nobody

    wait(lambda: all((reader.last_piece or 0) > at + RECHECK_SECONDS for reader in kept))
    assert not [(reader.name, reader.ended) for reader in kept if reader.ended]
    assert streams.live.client.get(f"/api/jobs/{streams.training}").json()["status"] == "running"
    for reader in kept:
        reader.close()


def wait(is_so: Any) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)
