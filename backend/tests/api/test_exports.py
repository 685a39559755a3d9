"""Exports through HTTP and the command line: a job that was trained for real, real files, refusals."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.core.settings import Settings
from app.main import create_app
from tests.api.conftest import ADDRESS, FRENCH, check_error, dataset_id
from tests.api.test_jobs import wait_for
from tests.export.shapes import write_model


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, str]]:
    """Return a client and a job that has succeeded, started with a ticked export."""
    model = write_model(tmp_path_factory.mktemp("models") / "tiny-llama", "llama")
    settings = Settings(data_dir=tmp_path_factory.mktemp("server") / "data", model_roots=str(model.parent))
    with TestClient(create_app(settings), base_url=ADDRESS) as client:
        body = {
            "dataset_id": dataset_id(client),
            "model_name": str(model),
            "num_epochs": 3,
            "learning_rate": 0.02,
            "report_rows": 0,
        }
        started = client.post("/api/start-finetuning", json={**body, "exports": ["merged"]})
        assert started.status_code == 201, started.text
        job_id = started.json()["job_id"]
        wait_for(client, job_id, "succeeded")
        yield client, job_id


def wait_until_made(client: TestClient, job_id: str, export_format: str) -> dict[str, Any]:
    while True:
        found: dict[str, Any] = client.get(f"/api/jobs/{job_id}/exports/{export_format}").json()
        if found["status"] not in ("queued", "running"):
            return found
        time.sleep(0.1)


def test_a_ticked_export_is_tried_before_the_training_and_made_listed_fetched_and_deleted_after_it(
    server: tuple[TestClient, str],
) -> None:
    client, job_id = server
    place = f"/api/jobs/{job_id}/exports"
    done = client.get(f"/api/jobs/{job_id}").json()
    assert "exports" in done["commands"]["curl"] and "--exports merged" in done["commands"]["cli"]
    assert any("untrained adapter" in notice["message"] for notice in done["notices"])
    made = wait_until_made(client, job_id, "merged")
    assert made["status"] == "succeeded", made
    assert not made["certificate"]["rehearsal"]
    assert made["certificate"]["passed"] and made["certificate"]["agreements"][0]["within_bounds"]
    names = {file["name"]: file["size_bytes"] for file in made["files"]}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md", "certificate.json"} <= names.keys()
    fetched = client.get(f"{place}/merged/files/model.safetensors")
    assert fetched.status_code == 200 and len(fetched.content) == names["model.safetensors"]
    assert "attachment" in fetched.headers["content-disposition"]
    assert client.get(f"{place}/merged/files/README.md").headers["content-type"] == "application/octet-stream"
    assert [export["format"] for export in client.get(place).json()["exports"]] == ["merged"]
    assert client.delete(f"{place}/merged").status_code == 204
    check_error(client.get(f"{place}/merged"), 404, "not_found")
    assert not Path(made["path"]).exists()


def test_an_export_is_asked_for_once_at_a_time_and_made(server: tuple[TestClient, str]) -> None:
    client, job_id = server
    place = f"/api/jobs/{job_id}/exports"
    offered = client.get(place).json()
    assert offered["exports"] == [] and all(offer["possible"] for offer in offered["offers"])
    begun = client.post(place, json={"format": "adapter"})
    assert begun.status_code == 202 and begun.json()["status"] == "queued", begun.text
    check_error(client.post(place, json={"format": "adapter"}), 409, "conflict")
    assert wait_until_made(client, job_id, "adapter")["status"] == "succeeded"
    assert client.delete(f"{place}/adapter").status_code == 204


@pytest.mark.parametrize("name", ["..%2F..%2Fjob.json", "nothing.bin", ".merged.lock", "%2Fetc%2Fpasswd"])
def test_only_files_of_the_export_have_a_name(server: tuple[TestClient, str], name: str) -> None:
    client, job_id = server
    assert client.get(f"/api/jobs/{job_id}/exports/adapter/files/{name}").status_code == 404


def test_an_unknown_format_and_an_unknown_job_are_refused(server: tuple[TestClient, str]) -> None:
    client, job_id = server
    check_error(client.post(f"/api/jobs/{job_id}/exports", json={"format": "pickle"}), 422, "invalid")
    check_error(client.post("/api/jobs/job-000000000000/exports", json={"format": "merged"}), 404, "not_found")
    check_error(client.get(f"/api/jobs/{job_id}/exports/gguf-f16"), 404, "not_found")


def test_an_export_whose_process_is_gone_has_failed_and_can_be_made_again(server: tuple[TestClient, str]) -> None:
    client, job_id = server
    studio = client.app.state.studio  # type: ignore[attr-defined]
    folder = studio.job_dir(job_id).path / "exports"
    folder.mkdir(exist_ok=True)
    state = {"format": "gguf-q8_0", "status": "running", "phase": "writing", "created_at": "2026-11-22T00:00:00.000Z"}
    (folder / "gguf-q8_0.json").write_text(json.dumps(state))
    found = client.get(f"/api/jobs/{job_id}/exports/gguf-q8_0", headers=FRENCH).json()
    assert found["status"] == "failed" and "interrompu" in found["error"]["message"]
    assert client.delete(f"/api/jobs/{job_id}/exports/gguf-q8_0").status_code == 204


def test_a_shape_that_llama_cpp_lacks_is_refused_with_its_name(server: tuple[TestClient, str]) -> None:
    client, job_id = server
    studio = client.app.state.studio  # type: ignore[attr-defined]
    config = Path(studio.job_dir(job_id).read_job().model.path) / "config.json"
    before = config.read_text()
    config.write_text(json.dumps({**json.loads(before), "model_type": "olmo"}))
    try:
        assert (
            "olmo"
            in check_error(client.post(f"/api/jobs/{job_id}/exports", json={"format": "gguf-f16"}), 415, "unsupported")["message"]
        )
        offers = {offer["format"]: offer for offer in client.get(f"/api/jobs/{job_id}/exports").json()["offers"]}
        assert not offers["gguf-q4_0"]["possible"] and offers["merged"]["possible"]
    finally:
        config.write_text(before)


def test_the_command_line_makes_an_export_and_prints_its_certificate(server: tuple[TestClient, str]) -> None:
    client, job_id = server
    data_dir = client.app.state.studio.settings.data_dir  # type: ignore[attr-defined]
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "--data-dir", str(data_dir), "export", job_id, "--format", "adapter"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LANG": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stderr
    assert "100.00 %" in done.stdout and "exports/adapter" in done.stdout.replace("\n", "")
    shown = client.get(f"/api/jobs/{job_id}/exports/adapter").json()
    assert shown["status"] == "succeeded" and shown["certificate"]["agreements"][0]["kl"] < 1e-5


def test_a_job_whose_export_cannot_work_fails_before_its_first_step(server: tuple[TestClient, str]) -> None:
    client, job_id = server
    job = client.get(f"/api/jobs/{job_id}").json()
    studio = client.app.state.studio  # type: ignore[attr-defined]
    tokenizer = Path(studio.job_dir(job_id).read_job().model.path) / "tokenizer.json"
    before = tokenizer.read_text()
    described = json.loads(before)
    described["pre_tokenizer"] = {"type": "Whitespace"}
    tokenizer.write_text(json.dumps(described))
    try:
        body = {"dataset_id": job["dataset_id"], "model_name": job["model_id"], "num_epochs": 1, "exports": ["gguf-f16"]}
        failed_id = client.post("/api/start-finetuning", json=body).json()["job_id"]
        while (failed := client.get(f"/api/jobs/{failed_id}").json())["status"] != "failed":
            assert failed["status"] in ("queued", "starting", "running")
            time.sleep(0.1)
    finally:
        tokenizer.write_text(before)
    assert failed["error"]["code"] == "unsupported" and "Whitespace" in failed["error"]["message"]
    assert failed["progress"]["step"] == 0


GEMMA = "google/gemma-3-270m-it"


def test_what_a_model_cannot_become_is_said_before_it_is_trained(server: tuple[TestClient, str]) -> None:
    client, _ = server
    offers = client.get("/api/exports/offers", params={"model_name": GEMMA}).json()["offers"]
    possible = {offer["format"]: offer["possible"] for offer in offers}
    assert possible["adapter"] and possible["merged"] and not possible["gguf-q8_0"]
    assert "gemma3" in next(offer["reason"]["message"] for offer in offers if offer["format"] == "gguf-f16")
    embedded = client.get("/api/exports/offers", params={"model_name": "HuggingFaceTB/SmolLM2-135M-Instruct"}).json()["offers"]
    assert all(offer["possible"] for offer in embedded)
    jobs = len(client.get("/api/jobs").json()["jobs"])
    body = {"dataset_id": dataset_id(client), "model_name": GEMMA, "exports": ["merged", "gguf-f16"]}
    check_error(client.post("/api/start-finetuning", json=body), 415, "unsupported")
    assert len(client.get("/api/jobs").json()["jobs"]) == jobs
    check_error(client.get("/api/exports/offers", params={"model_name": "nobody-knows-it"}), 404, "not_found")


def test_a_job_is_not_deleted_while_an_export_of_it_is_made_or_sent(
    server: tuple[TestClient, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, job_id = server  # the last test that needs this job
    job, place = f"/api/jobs/{job_id}", f"/api/jobs/{job_id}/exports"
    assert client.post(place, json={"format": "adapter"}).status_code == 202
    assert "adapter" in check_error(client.delete(job), 409, "conflict")["message"]
    assert "en cours" in check_error(client.delete(job, headers=FRENCH), 409, "conflict")["message"]
    assert wait_until_made(client, job_id, "adapter")["status"] == "succeeded"
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a hub that takes the call and says nothing, until it closes
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        sent = client.post(f"{place}/adapter/push", json={"repo_id": "acme/helper", "private": True})
        assert sent.json()["push"]["state"] == "running", sent.text
        for address in (job, f"{place}/adapter"):
            assert "acme/helper" in check_error(client.delete(address), 409, "conflict")["message"]
    while client.get(f"{place}/adapter").json()["push"]["state"] == "running":
        time.sleep(0.1)
    folder = client.app.state.studio.job_dir(job_id).path  # type: ignore[attr-defined]
    assert client.delete(job).status_code == 204 and not folder.exists()
