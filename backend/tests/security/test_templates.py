"""A chat template that takes time or memory without end only for some conversation: met by a training or a chat, not by a plan.

CVE-2026-115911 and CVE-2026-115918 (vLLM), where the answering process itself renders.
"""

import json
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from jinja2 import TemplateError

from app.contracts.dataset import Message
from app.core.errors import ModelUnavailable
from app.core.settings import Settings
from app.datasets import template_limits
from app.datasets.template import ChatTemplate
from app.main import create_app
from tests.api.conftest import ADDRESS
from tests.api.test_jobs import read_stream
from tests.engine.tiny import CHAT_TEMPLATE, write_llama

LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
GROWTH = "{{ ('x' * 9999999999)|length }}"
POWER = "{{ 9 ** 9 ** 9 }}"
HOSTILE = "".join(
    f"{{% if messages[0]['content'] == '{word}' %}}{body}{{% endif %}}"
    for word, body in {"loop": LOOP, "growth": GROWTH, "power": POWER}.items()
)


def render(source: str) -> str:
    return ChatTemplate(source, {}).render([Message(role="user", content="Hi")], add_generation_prompt=False)


@pytest.mark.parametrize(("source", "reason"), [(LOOP, "more than 0.2 s"), (GROWTH, "out of memory")])
def test_a_rendering_that_takes_too_much_ends_and_leaves_no_limit_behind(
    monkeypatch: pytest.MonkeyPatch, source: str, reason: str
) -> None:
    monkeypatch.setattr(template_limits, "RENDER_SECONDS", 0.2)
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(ModelUnavailable, match=reason):
        render(source)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    assert render("{{ messages[0].content }}") == "Hi"
    until = time.process_time() + 0.5
    while time.process_time() < until:  # nothing rings later
        pass


def test_a_template_cannot_raise_to_a_power() -> None:
    with pytest.raises(TemplateError, match="power"):
        render(POWER)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TestClient]:
    model = write_llama(tmp_path / "data" / "mine")
    file = model / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": HOSTILE + CHAT_TEMPLATE}))
    with TestClient(create_app(Settings(data_dir=tmp_path / "data")), base_url=ADDRESS) as client:
        yield client


def test_a_chat_that_meets_such_a_template_ends_with_a_sentence_and_the_next_one_is_answered(server: TestClient) -> None:
    model = str(server.app.state.studio.settings.data_dir / "mine")  # type: ignore[attr-defined]

    def ask(prompt: str) -> dict[str, Any]:
        body = {"targets": [{"model": model}], "prompt": prompt, "max_new_tokens": 4}
        last: dict[str, Any] = read_stream(server.post("/api/chat", json=body))[-1][1]
        assert last["finished"]
        return last

    assert ask("Hi")["error"] is None
    for prompt, words in (("growth", "out of memory"), ("power", "power"), ("loop", "more than 10 s")):
        error = ask(prompt)["error"]
        assert error is not None and words in error["message"], (prompt, error)
        assert ask("Hi")["error"] is None, "the same process answers"
