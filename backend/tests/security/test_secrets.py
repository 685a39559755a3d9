"""Secrets of the environment, and tokens, during a real training: in no file, answer, event, log, process list or diagnosis."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.core.settings import Settings
from app.services.backup_service import back_up
from tests.api.conftest import dataset_id
from tests.api.test_live_server import LiveServer
from tests.engine.tiny import write_llama
from tests.security.conftest import CANARY

NAMES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "OPENAI_API_KEY", "AFFINAGE_CANARY")
ENDED = ("succeeded", "failed", "cancelled")


class Watched:
    """A server whose environment holds secrets, what it answered, and what the process list showed meanwhile."""

    def __init__(self, folder: Path) -> None:
        model = write_llama(folder / "models" / "tiny")
        self.server = LiveServer(folder / "data", model_roots=str(model.parent), trace_plans="false")
        self.server.environment |= dict.fromkeys(NAMES, CANARY) | {"HF_HUB_OFFLINE": "1"}
        self.server.start()
        self.answers: list[str] = []
        self.command_lines: set[str] = set()
        self.listening: set[int] = set()
        body = {"dataset_id": dataset_id(self.server.client), "model_name": str(model), "exports": ["adapter"], "num_epochs": 1}
        self.token = self.ask("POST", "/api/tokens", json={"name": "canary"})["token"]
        self.answers.clear()  # this one is shown once, here
        self.job_id = self.ask("POST", "/api/start-finetuning", json=body)["job_id"]
        while self.ask("GET", f"/api/jobs/{self.job_id}")["status"] not in ENDED:
            self.look_at_processes()
            time.sleep(0.1)
        while '"queued"' in (listed := self.server.client.get(f"/api/jobs/{self.job_id}/exports").text) or '"running"' in listed:
            self.look_at_processes()
            time.sleep(0.1)

    def ask(self, method: str, path: str, **more: object) -> dict[str, str]:
        answer = self.server.client.request(method, path, **more)  # type: ignore[arg-type]
        self.answers.append(answer.text)
        found: dict[str, str] = answer.json()
        return found

    def look_at_processes(self) -> None:
        """Note the command lines of the server and of everything that it started, and the ports on which they listen."""
        assert self.server.process is not None
        family = [psutil.Process(self.server.process.pid)]
        family += family[0].children(recursive=True)
        for process in family:
            try:
                self.command_lines.add(" ".join(process.cmdline()))
                found = process.net_connections(kind="inet")
            except psutil.Error:  # it has just ended
                continue
            self.listening |= {one.laddr.port for one in found if one.status == psutil.CONN_LISTEN}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    made = Watched(tmp_path_factory.mktemp("secrets"))
    yield made
    made.server.close()


def test_the_training_was_real_and_its_process_was_seen(watched: Watched) -> None:
    job = watched.ask("GET", f"/api/jobs/{watched.job_id}")
    assert job["status"] == "succeeded", job
    assert any("app.training" in line and watched.job_id in line for line in watched.command_lines)


def test_no_secret_is_in_any_answer_or_event(watched: Watched) -> None:
    for path in ("", "/logs", "/report", "/checkpoints", "/exports", "/metrics"):
        watched.ask("GET", f"/api/jobs/{watched.job_id}{path}")
    for path in ("health", "hardware", "settings", "tokens", "jobs", "datasets", "models/available", "session"):
        watched.ask("GET", f"/api/{path}")
    watched.answers += [json.dumps(event) for event in watched.server.follow(watched.job_id, None)]
    assert len(watched.answers) > 30
    assert not [answer for answer in watched.answers if CANARY in answer or watched.token in answer]


def test_no_secret_is_in_any_file_of_the_data_folder(watched: Watched) -> None:
    files = [path for path in watched.server.data_dir.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"affinage.db", "server.log", "trainer.log", "events.jsonl", "job.json", "adapter_config.json", "README.md"} <= names
    secrets = (CANARY.encode(), watched.token.encode(), watched.token.rpartition("_")[2].encode())
    for path in files:
        content = path.read_bytes()
        assert not any(secret in content for secret in secrets), path


def test_no_secret_is_in_the_process_list_and_only_one_port_is_open(watched: Watched) -> None:
    """CVE-2023-6019 and its family (Ray): what is not started cannot be attacked."""
    assert not [line for line in watched.command_lines if CANARY in line or watched.token in line]
    assert watched.listening == {watched.server.port}


def test_no_secret_is_in_what_doctor_and_settings_print(watched: Watched) -> None:
    for command in (["doctor", "--quick", "--json"], ["settings", "--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *command], env=watched.server.environment, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.stdout.startswith("{"), done.stderr
        assert CANARY not in done.stdout + done.stderr and watched.token not in done.stdout + done.stderr


def test_no_secret_and_no_hash_of_a_token_is_in_a_backup(watched: Watched, tmp_path: Path) -> None:
    made = back_up(Settings(data_dir=watched.server.data_dir), tmp_path / "backup.tar")
    content = made.file.read_bytes()
    assert watched.job_id.encode() in content
    kept = json.loads((watched.server.data_dir / "access" / "credentials.json").read_text())
    hashes = [record["sha256"] for record in kept["records"]]
    assert hashes
    for secret in (CANARY, watched.token, watched.token.rpartition("_")[2], *hashes):
        assert secret.encode() not in content
