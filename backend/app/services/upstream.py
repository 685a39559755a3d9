"""Another OpenAI-compatible server (vLLM, llama.cpp) that answers for the models it lists.

Its address is the operator's (AFFINAGE_UPSTREAM_URL), never a caller's. Requests are passed on as they came, with the
upstream's own key; what it answers is passed back as it comes.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx2

from app.core.errors import UpstreamUnreachable
from app.core.settings import Settings

LIST_SECONDS = 30.0
"""How long the upstream's list of models counts."""
LIST_ANSWER_SECONDS = 5.0
"""Longest wait for that list: whoever wants to know who answers to a name waits for it."""
CONNECT_SECONDS = 5.0
JSON = {"Content-Type": "application/json"}
ANSWER_SECONDS = 600.0
"""Longest silence of an upstream that works on an answer."""


@dataclass(frozen=True)
class Reply:
    """What the upstream answers."""

    status_code: int
    media_type: str
    pieces: Iterator[bytes]


class Upstream:
    """The upstream server of one studio; without an address it knows no model."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.upstream_url.rstrip("/")
        self._key = settings.upstream_key.get_secret_value()
        self._models: list[str] = []
        self._read_at = -LIST_SECONDS
        self._listing = threading.Lock()

    @property
    def is_set(self) -> bool:
        """Whether there is an upstream."""
        return bool(self._url)

    def list_models(self) -> list[str]:
        """Return the models that it lists; none while it cannot be reached. One asks, the others wait for the answer."""
        if not self._url:
            return []
        with self._listing:
            if time.monotonic() - self._read_at > LIST_SECONDS:
                self._models = self._ask_for_models()
                self._read_at = time.monotonic()
            return self._models

    def _ask_for_models(self) -> list[str]:
        try:
            with self._client() as client:
                answer = client.get(f"{self._url}/models", timeout=LIST_ANSWER_SECONDS).raise_for_status().json()
            return [str(entry["id"]) for entry in answer["data"]]
        except (httpx2.HTTPError, ValueError, KeyError, TypeError):
            return []

    def send(self, path: str, body: bytes) -> Reply:
        """Pass a request on, a JSON document. Raise UpstreamUnreachable when nobody answers."""
        client = self._client()
        try:
            answer = client.send(client.build_request("POST", f"{self._url}/{path}", content=body, headers=JSON), stream=True)
        except httpx2.HTTPError as error:
            client.close()
            raise UpstreamUnreachable(url=self._url, reason=type(error).__name__) from error

        def pieces() -> Iterator[bytes]:
            try:
                yield from answer.iter_raw()
            finally:
                answer.close()
                client.close()

        media_type = answer.headers.get("content-type", "application/json")
        return Reply(answer.status_code, media_type, pieces())

    def _client(self) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        timeout = httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
        return httpx2.Client(headers={**headers, "Accept-Encoding": "identity"}, timeout=timeout, follow_redirects=False)
