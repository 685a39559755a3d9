"""Two small questions to the hub: does it answer, and what does a model's config.json say. No weights move."""

import json
import os
import threading
import time
from typing import Any

import httpx2

from app.core.errors import HubUnreachable, ModelUnavailable
from app.storage.hub import hub_endpoint, is_offline
from app.storage.model_store import CONFIG_BYTES

REACH_SECONDS = 2.0
REMEMBER_SECONDS = 60.0
CONFIG_SECONDS = 5.0


class HubReach:
    """Remembers for a minute whether the hub answers, so that a list of models never waits for it twice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, bool]] = {}

    def answers(self) -> bool:
        """Return whether the hub answered when it was last asked.

        Only the very first question waits, at most REACH_SECONDS; later an old answer is given while a new one is fetched.
        """
        if is_offline():
            return False
        endpoint = hub_endpoint()
        with self._lock:
            known = self._known.get(endpoint)
            if known is None:
                known = self._known[endpoint] = (time.monotonic(), self._ask(endpoint))
            elif time.monotonic() - known[0] > REMEMBER_SECONDS:
                self._known[endpoint] = (time.monotonic(), known[1])
                threading.Thread(target=self._refresh, args=(endpoint,), daemon=True, name="hub-refresh").start()
            return known[1]

    def _refresh(self, endpoint: str) -> None:
        answered = self._ask(endpoint)
        with self._lock:
            self._known[endpoint] = (time.monotonic(), answered)

    @staticmethod
    def _ask(endpoint: str) -> bool:
        found: list[bool] = []

        def ask() -> None:
            try:
                status = httpx2.get(f"{endpoint}/api/models/gpt2", timeout=REACH_SECONDS, follow_redirects=True).status_code
            except (httpx2.HTTPError, httpx2.InvalidURL, OSError):
                return
            # A proxy that lets nothing through answers 403 or 407; a hub that lacks this one model still is a hub.
            found.append(status in {200, 401, 404, 429})

        # Name resolution knows no timeout of its own.
        thread = threading.Thread(target=ask, daemon=True, name="hub-reach")
        thread.start()
        thread.join(REACH_SECONDS)
        return bool(found and found[0])


hub_reach = HubReach()
"""One memory for the process."""


def fetch_config(model_id: str, commit: str) -> dict[str, Any]:
    """Return config.json of a model of the hub. Raise HubUnreachable, or ModelUnavailable when there is none to read."""
    if is_offline():
        raise HubUnreachable("offline", model_id=model_id)
    endpoint, token = hub_endpoint(), os.environ.get("HF_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx2.get(
            f"{endpoint}/{model_id}/resolve/{commit}/config.json",
            headers=headers,
            timeout=CONFIG_SECONDS,
            follow_redirects=True,
        )
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise HubUnreachable(endpoint=endpoint, model_id=model_id) from error
    if answer.status_code in {401, 403}:
        raise ModelUnavailable("gated", model_id=model_id, endpoint=endpoint)
    if answer.status_code == 404:
        raise ModelUnavailable("incomplete", model_id=model_id, missing="config.json")
    if answer.status_code != 200:
        raise HubUnreachable("status", endpoint=endpoint, status=answer.status_code, model_id=model_id)
    try:
        config = json.loads(answer.content) if len(answer.content) <= CONFIG_BYTES else None
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise ModelUnavailable("incomplete", model_id=model_id, missing="config.json")
    return config
