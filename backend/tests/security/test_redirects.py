"""Addresses that lead elsewhere (CVE-2025-61784 and its kind): who answers for the operator's address sends us nowhere with our
secrets."""

import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr

from app.core.errors import AffinageError
from app.core.settings import Settings
from app.services.upstream import Upstream
from app.services.webhook import Webhook
from app.storage.hub_config import fetch_config
from tests.security.conftest import CANARY
from tests.unit.jobs.conftest import Bench


@contextmanager
def serving(leads_to: str | None, certificate: Path | None = None) -> Iterator[tuple[str, list[str]]]:
    """Give address and requests (with their headers) of a server that answers `{}`, or sends everybody on to another address."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(f"{self.requestline}\n{self.headers}")
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(302 if leads_to else 200)
            if leads_to:
                self.send_header("Location", f"{leads_to}/inside")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def inner() -> Iterator[tuple[str, list[str]]]:
    """A server that was never meant: one inside the network, say."""
    with serving(None) as made:
        yield made


@pytest.fixture
def outer(inner: tuple[str, list[str]]) -> Iterator[tuple[str, list[str]]]:
    """What is in the settings; it leads everybody to `inner`."""
    with serving(inner[0]) as made:
        yield made


def test_an_upstream_that_leads_elsewhere_is_not_followed(
    outer: tuple[str, list[str]], inner: tuple[str, list[str]], tmp_path: Path
) -> None:
    upstream = Upstream(Settings(data_dir=tmp_path, upstream_url=f"{outer[0]}/v1", upstream_key=SecretStr(CANARY)))
    assert upstream.list_models() == []
    assert upstream.send("chat/completions", b'{"model": "x"}').status_code == 302
    assert len(outer[1]) == 2 and CANARY in outer[1][0] and inner[1] == []


def test_a_webhook_that_leads_elsewhere_is_not_followed(
    outer: tuple[str, list[str]], inner: tuple[str, list[str]], tmp_path: Path
) -> None:
    bench = Bench(tmp_path / "data")
    bench.queue("a", [])
    Webhook(f"{outer[0]}/hook", bench.settings.data_dir, bench.database, waits_seconds=()).tell("a")
    for thread in threading.enumerate():
        if thread.name == "webhook":
            thread.join(60)
    bench.close()
    assert len(outer[1]) == 1 and inner[1] == []


def test_the_hubs_token_is_not_sent_to_where_the_hub_leads(
    outer: tuple[str, list[str]], inner: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub does send its readers on, to the machines that hold the files: they are followed, without the token."""
    monkeypatch.setenv("HF_ENDPOINT", outer[0])
    monkeypatch.setenv("HF_TOKEN", CANARY)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    try:
        fetch_config("org/model", "0" * 40)
    except AffinageError as problem:
        pytest.fail(f"the hub's own redirect was not followed: {problem}")
    assert len(outer[1]) == len(inner[1]) == 1
    assert CANARY in outer[1][0] and CANARY not in inner[1][0]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_a_name_that_was_turned_to_another_machine_gets_no_request_over_https(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding of an address in the settings: who answers there cannot show the certificate of that name."""
    pair = tmp_path / "another.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=another.example"]
    subprocess.run([*command, "-keyout", tmp_path / "key", "-out", tmp_path / "certificate"], check=True, capture_output=True)
    pair.write_bytes((tmp_path / "key").read_bytes() + (tmp_path / "certificate").read_bytes())
    with serving(None, pair) as (address, seen):
        trusting = ssl.create_default_context(cafile=str(tmp_path / "certificate"))
        trusting.check_hostname = False
        assert httpx2.get(address, verify=trusting).json() == {}  # it does answer those who do not ask for its name
        seen.clear()
        upstream = Upstream(Settings(data_dir=tmp_path, upstream_url=f"{address}/v1", upstream_key=SecretStr(CANARY)))
        assert upstream.list_models() == []
        with pytest.raises(AffinageError):
            upstream.send("chat/completions", b'{"model": "x"}')
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("HF_TOKEN", CANARY)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        with pytest.raises(AffinageError):
            fetch_config("org/model", "0" * 40)
        bench = Bench(tmp_path / "data")
        bench.queue("a", [])
        Webhook(f"{address}/hook", bench.settings.data_dir, bench.database, waits_seconds=()).tell("a")
        for thread in threading.enumerate():
            if thread.name == "webhook":
                thread.join(60)
        bench.close()
        assert seen == []
