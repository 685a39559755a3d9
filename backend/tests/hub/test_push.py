"""Exports are sent to a hub by huggingface_hub itself, over real HTTP, and come back as they were."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core.errors import AffinageError, HubUnreachable, Invalid
from app.storage.hub import fetch, list_files
from app.storage.hub_push import push_files
from tests.hub.server import HubServer

CARD = b"---\nlibrary_name: transformers\n---\n\n# A model\n"


@pytest.fixture
def writable(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer() as hub:
        hub.writer = "hf_writer"
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_TOKEN", "hf_writer")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield hub


@pytest.fixture
def export(tmp_path: Path) -> dict[str, Path]:
    contents = {
        "model.safetensors": b"w" * 300_000,
        "config.json": b'{"model_type": "llama"}',
        "tokenizer.json": b"{}",
        "README.md": CARD,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name for name in contents}


def test_what_is_sent_is_what_another_machine_fetches(writable: HubServer, export: dict[str, Path], tmp_path: Path) -> None:
    address = push_files("acme/helper", export, private=True)
    assert address == f"{writable.endpoint}/acme/helper"
    repository = writable.repositories["acme/helper"]
    assert repository.private and set(repository.files) == set(export)
    assert hashlib.sha256(export["model.safetensors"].read_bytes()).hexdigest() in writable.objects, "large files go as objects"
    fetched = tmp_path / "fetched"
    fetch("acme/helper", list_files("acme/helper"), fetched, lambda *_: None)
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (fetched / name).read_bytes() == export[name].read_bytes()


def test_sending_again_makes_a_new_commit_of_the_same_repository(writable: HubServer, export: dict[str, Path]) -> None:
    push_files("acme/helper", export, private=False)
    first = writable.repositories["acme/helper"].commit
    export["config.json"].write_bytes(b'{"model_type": "qwen2"}')
    push_files("acme/helper", export, private=False)
    repository = writable.repositories["acme/helper"]
    assert repository.commit != first and repository.files["config.json"] == b'{"model_type": "qwen2"}'
    assert not repository.private


@pytest.mark.parametrize("name", ["helper", "../etc/passwd", "acme/", "a b/c", "https://elsewhere.example/a"])
def test_a_name_that_is_no_repository_is_refused_before_anything_is_sent(
    writable: HubServer, export: dict[str, Path], name: str
) -> None:
    with pytest.raises(Invalid) as refused:
        push_files(name, export, private=True)
    assert refused.value.key == "invalid.repo_id" and writable.requests == []


def test_every_refusal_has_its_reason(writable: HubServer, export: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def reason() -> str:
        with pytest.raises(AffinageError) as refused:
            push_files("acme/helper", export, private=True)
        return refused.value.key

    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    assert reason() == "invalid.hub_refused"
    monkeypatch.delenv("HF_TOKEN")
    assert reason() == "invalid.hub_token"
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    writable.answer_everything = (500, "text/plain", b"broken")
    with pytest.raises(HubUnreachable) as failed:
        push_files("acme/helper", export, private=True)
    assert failed.value.key == "hub_unreachable.push" and "hf_writer" not in str(failed.value)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert reason() == "hub_unreachable.offline_push"
