"""The report of a job that was trained for real: JSON, one HTML file, the command line."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fastapi.testclient import TestClient

from app.core.settings import Settings
from app.main import create_app
from tests.api.conftest import ADDRESS, FRENCH, check_error, upload
from tests.api.test_jobs import wait_for
from tests.export.shapes import write_model

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"


class Receiver(BaseHTTPRequestHandler):
    """Refuses the first notice and keeps the others."""

    told: ClassVar[list[dict[str, Any]]] = []
    refused: ClassVar[list[int]] = []
    arrived: ClassVar[threading.Event] = threading.Event()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.refused:
            self.refused.append(503)
            self.send_error(503)
            return
        self.told.append(body)
        self.send_response(204)
        self.end_headers()
        self.arrived.set()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture(scope="module")
def receiver() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}/hook?secret=abc"
        listening.shutdown()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, receiver: str) -> Iterator[tuple[TestClient, str, Path]]:
    """Return a client, a finished job on hostile rows, and the data folder."""
    model = write_model(tmp_path_factory.mktemp("models") / "tiny-llama", "llama")
    settings = Settings(data_dir=tmp_path_factory.mktemp("server") / "data", model_roots=str(model.parent), webhook_url=receiver)
    rows = "".join(f'"{EVIL} {n}?","{EVIL}"\n' for n in range(60))
    with TestClient(create_app(settings), base_url=ADDRESS) as client:
        dataset = upload(client, "question,answer\n" + rows).json()["dataset_id"]
        body = {"dataset_id": dataset, "model_name": str(model), "num_epochs": 3, "learning_rate": 0.02, "report_rows": 3}
        started = client.post("/api/start-finetuning", json={**body, "name": EVIL})
        assert started.status_code == 201, started.text
        job_id = started.json()["job_id"]
        wait_for(client, job_id, "succeeded")
        yield client, job_id, settings.data_dir


def test_the_report_compares_base_and_tuned(server: tuple[TestClient, str, Path]) -> None:
    client, job_id, _ = server
    report = client.get(f"/api/jobs/{job_id}/report").json()
    compared = report["comparison"]
    assert compared["verdict"] == "better" and "better than the original" in compared["summary"]
    assert compared["answered_rows"] == 3 and compared["measured_rows"] == report["heldout_rows"] > 3
    assert [measure["name"] for measure in compared["measures"]] == ["loss", "exact", "overlap"]
    assert compared["measures"][1]["label"] == "Exactly the expected answer"
    assert all(row["expected"] == EVIL for row in compared["worst"])
    french = client.get(f"/api/jobs/{job_id}/report", headers=FRENCH).json()["comparison"]
    assert "meilleur que l’original" in french["summary"] and french["measures"][0]["label"].startswith("Perte")
    assert report["best_step"] and report["planned_steps"] >= report["steps"]


class Tags(HTMLParser):
    """Collects every element with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_report_is_one_file_in_which_nothing_of_the_data_is_markup(
    server: tuple[TestClient, str, Path], language: str
) -> None:
    client, job_id, _ = server
    answer = client.get(f"/api/jobs/{job_id}/report.html?language={language}")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox;") and "default-src 'none'" in policy and "script" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["content-language"] == language
    parsed = Tags()
    parsed.feed(answer.text)
    names = {tag for tag, _ in parsed.found}
    assert "script" not in names and "img" not in names and "svg" in names and "iframe" not in names
    for tag, attributes in parsed.found:
        assert not any(name.startswith("on") or name in ("src", "href") for name in attributes), (tag, attributes)
    assert "&lt;script&gt;alert(1)" in answer.text and f'<html lang="{language}">' in answer.text
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", answer.text), "nothing is fetched from elsewhere"
    assert ("Réponses" if language == "fr" else "the worst first") in answer.text


def test_a_job_without_a_report_is_a_conflict_and_an_unknown_one_not_found(server: tuple[TestClient, str, Path]) -> None:
    client, _, _ = server
    check_error(client.get("/api/jobs/job-unknown/report.html"), 404, "not_found")
    check_error(client.get("/api/jobs/job-unknown/report?language=fr"), 404, "not_found")


def test_the_command_line_prints_the_report_and_writes_the_file(server: tuple[TestClient, str, Path], tmp_path: Path) -> None:
    _, job_id, data_dir = server
    environment = {**os.environ, "AFFINAGE_DATA_DIR": str(data_dir), "LC_ALL": "C.UTF-8", "COLUMNS": "160"}

    def affinage(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    shown = affinage("jobs", "report", job_id, "--html", str(tmp_path / "report.html"))
    assert "Exactly the expected answer" in shown and "better than the original" in shown
    assert (tmp_path / "report.html").read_text("utf-8").startswith("<!doctype html>")
    document = json.loads(affinage("jobs", "report", job_id, "--json"))
    assert document["comparison"]["verdict"] == "better"


def test_the_capsule_of_a_finished_job_holds_curve_and_figures_but_no_row(server: tuple[TestClient, str, Path]) -> None:
    client, job_id, _ = server
    answer = client.get(f"/api/jobs/{job_id}/capsule")
    capsule = answer.json()
    assert capsule["curve"]["steps"] == list(range(1, capsule["report"]["steps"] + 1))
    assert len(capsule["curve"]["losses"]) == len(capsule["curve"]["steps"]) and len(capsule["adapter_sha256"]) == 64
    assert capsule["comparison"]["measures"] and capsule["comparison"]["worst"] == [] and capsule["evaluations"]
    assert EVIL not in answer.text.replace(json.dumps(capsule["job"]["name"]), ""), "only the title, which a person chose"


def test_another_program_is_told_once_that_the_job_ended_though_it_first_refused(server: tuple[TestClient, str, Path]) -> None:
    client, job_id, _ = server
    assert Receiver.arrived.wait(60)
    (told,) = Receiver.told
    report = client.get(f"/api/jobs/{job_id}/report").json()
    assert told["event"] == "job.ended" and told["job_id"] == job_id and told["status"] == "succeeded"
    assert (told["loss_before"], told["loss_after"]) == (report["loss_before"], report["loss_after"])
    shown = client.get("/api/settings").text
    assert "webhook_url" in shown and "secret=abc" not in shown
