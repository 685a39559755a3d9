"""Start, follow, cancel, delete and try jobs over HTTP; the trainer and the model are real and tiny."""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.contracts.chat import Generation
from app.contracts.dataset import Message
from app.core.messages import localise
from app.core.settings import Settings
from app.main import create_app
from app.services import calibration_service, inference_service
from app.services.inference_workers import find_listener
from tests.api.conftest import ADDRESS, FRENCH, check_error, dataset_id

SPECIFICATION = {"dataset_id": "YOUR_DATASET_ID", "model_name": "meta-llama/Llama-2-7b-hf", "num_epochs": 1}
"""The body of the specification's own curl command."""


def wait_for(client: Any, job_id: str, *statuses: str, seconds: float = 180) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        job: dict[str, Any] = client.get(f"/api/jobs/{job_id}").json()
        if job["status"] in statuses:
            return job
        assert time.monotonic() < deadline, job
        assert job["status"] != "failed", job["error"]
        time.sleep(0.1)


def read_stream(answer: Any) -> list[tuple[int | None, dict[str, Any]]]:
    """Return (id, data) of each event of an event stream."""
    found = []
    for block in answer.text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
        if "data" in fields:
            found.append((int(fields["id"]) if "id" in fields else None, json.loads(fields["data"])))
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, database_kind: str) -> Iterator[TestClient]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("server") / "data", model_roots=str(tiny_model.parent), stop_grace_seconds=5.0
    )
    with TestClient(create_app(settings), base_url=ADDRESS) as client:
        yield client


@pytest.fixture(scope="module")
def body(server: TestClient, tiny_model: Path) -> dict[str, Any]:
    return {"dataset_id": dataset_id(server), "model_name": str(tiny_model), "max_length": 128, "num_epochs": 2, "report_rows": 0}


@pytest.fixture(scope="module")
def trained(server: TestClient, body: dict[str, Any]) -> dict[str, Any]:
    """One job, trained to the end through the API, though the folder of its data set goes as soon as it is queued."""
    short_lived = dataset_id(server)
    answer = server.post("/api/start-finetuning", json={**body, "dataset_id": short_lived, "learning_rate": 0.01})
    assert answer.status_code == 201, answer.text
    check_error(server.delete(f"/api/datasets/{short_lived}"), 409, "conflict")
    shutil.rmtree(server.app.state.studio.dataset_dir(short_lived).path)  # type: ignore[attr-defined]  # by somebody else
    return wait_for(server, answer.json()["job_id"], "succeeded")


def test_what_a_job_uses_can_be_deleted_only_when_the_job_has_ended(client: TestClient, settings: Settings) -> None:
    """Nobody supervises here: the job stays queued until it is cancelled."""
    studio = client.app.state.studio  # type: ignore[attr-defined]
    studio.supervisor.stop()
    from tests.engine.tiny import write_llama

    write_llama(settings.data_dir / "mine")
    model = str(settings.data_dir / "mine")
    assert client.post("/api/models", json={"model": model}).status_code == 201
    used = dataset_id(client)
    started = client.post("/api/start-finetuning", json={"dataset_id": used, "model_name": model})
    assert started.status_code == 201, started.text
    for address in (f"/api/datasets/{used}", f"/api/models/{model}"):
        error = check_error(client.delete(address), 409, "conflict")
        assert started.json()["job_id"] in error["message"]
        assert client.get("/api/datasets").json()["datasets"][0]["dataset_id"] == used
    assert client.post(f"/api/jobs/{started.json()['job_id']}/cancel").json()["status"] == "cancelled"
    for address in (f"/api/datasets/{used}", f"/api/models/{model}"):
        assert client.delete(address).status_code == 204


def test_the_specifications_curl_command_with_its_placeholder_says_that_there_is_no_such_data_set(server: TestClient) -> None:
    error = check_error(server.post("/api/start-finetuning", json=SPECIFICATION), 404, "not_found")
    assert "YOUR_DATASET_ID" in error["message"] and "upload" in error["hint"]
    french = server.post("/api/start-finetuning", json=SPECIFICATION, headers=FRENCH)
    assert "jeu de données" in check_error(french, 404, "not_found")["message"]


@pytest.mark.parametrize("path", ["/api/plans", "/api/start-finetuning"])
@pytest.mark.parametrize(
    "field, value, words",
    [
        ("num_epochs", 0, "at least 1"),
        ("num_epochs", 1001, "at most 1000"),
        ("num_epochs", 1.5, "whole number"),
        ("learning_rate", 0, "greater than 0"),
        ("learning_rate", 1.1, "at most 1"),
        ("learning_rate", "fast", "number"),
        ("batch_size", 0, "at least 1"),
        ("max_length", 7, "at least 8"),
        ("lora_dropout", 1, "less than 1"),
        ("lr_scheduler", "cliff", "one of"),
        ("target_modules", [], "at least 1"),
        ("seed", -1, "at least 0"),
        ("no_such_option", 1, "not known"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_field_and_range(
    server: TestClient, body: dict[str, Any], path: str, field: str, value: object, words: str
) -> None:
    error = check_error(server.post(path, json={**body, field: value}), 422, "invalid")
    assert field in error["message"] and words in error["message"]
    assert error["details"][0]["field"].startswith(field)


def test_a_missing_field_is_named_in_french(server: TestClient) -> None:
    error = check_error(server.post("/api/plans", json={"model_name": "gpt2"}, headers=FRENCH), 422, "invalid")
    assert error["message"] == f"dataset_id: {localise('value.missing', 'fr')[0]}."


def test_an_unknown_model_is_not_found(server: TestClient, body: dict[str, Any]) -> None:
    check_error(server.post("/api/plans", json={**body, "model_name": "no-such-model"}), 404, "not_found")
    check_error(server.post("/api/start-finetuning", json={**body, "model_name": "no-such-model"}), 404, "not_found")


def test_the_catalogue_has_the_specifications_fields_and_one_preselected_model(server: TestClient) -> None:
    models = server.get("/api/models/available").json()["models"]
    by_id = {model["id"]: model for model in models}
    wanted = {"name": "GPT-2 (124M)", "vram_required_gb": 2.0, "quality_rating": 2, "speed_rating": 5}
    wanted |= {"batch_size": 8, "max_length": 512, "learning_rate": 0.0003}
    assert wanted.items() <= by_id["gpt2"].items()
    assert sum(model["preselected"] for model in models) == 1
    french = server.get("/api/models/available", headers=FRENCH).json()["models"]
    assert french[0]["description"] != models[0]["description"]


def test_a_plan_starts_nothing_and_says_where_each_value_comes_from(server: TestClient, body: dict[str, Any]) -> None:
    before = len(server.get("/api/jobs").json()["jobs"])
    plan = server.post("/api/plans", json={**body, "seed": 3}).json()
    assert plan["fits"] is True and plan["verdict"] == "fits"
    assert plan["peak_bytes"] == sum(plan["parts"].values())
    assert plan["resolved"]["seed"] == {"value": 3, "origin": "user", "reason": None, "automatic": 42}
    assert plan["resolved"]["num_epochs"]["value"] == 2
    assert (plan["train_rows"], plan["heldout_rows"]) == (40, 20)
    assert len(server.get("/api/jobs").json()["jobs"]) == before


def test_a_job_trains_to_the_end_and_shows_its_numbers(server: TestClient, trained: dict[str, Any]) -> None:
    progress = trained["progress"]
    assert progress["fraction"] == 1.0 and progress["step"] == progress["total_steps"] == trained["plan"]["steps"]
    assert progress["heldout_loss"] < progress["heldout_loss_before"]
    assert trained["can_chat"] is True and trained["error"] is None
    assert (Path(trained["adapter_path"]) / "adapter_model.safetensors").is_file()
    assert trained["job_id"] in [job["job_id"] for job in server.get("/api/jobs").json()["jobs"]]
    assert server.get("/api/jobs", params={"status": "failed"}).json() == {"jobs": []}


def test_the_report_compares_before_and_after_in_words(server: TestClient, trained: dict[str, Any]) -> None:
    english = server.get(f"/api/jobs/{trained['job_id']}/report").json()
    french = server.get(f"/api/jobs/{trained['job_id']}/report", headers=FRENCH).json()
    assert english["heldout_rows"] == 20
    assert english["improvement"] == pytest.approx(1 - english["loss_after"] / english["loss_before"])
    assert f"fell from {english['loss_before']:.2f}" in english["summary"]
    assert f"{french['loss_after']:.2f}".replace(".", ",") in french["summary"]


def test_events_replay_from_the_beginning_and_from_the_last_one_seen(server: TestClient, trained: dict[str, Any]) -> None:
    where = f"/api/jobs/{trained['job_id']}/events"
    whole = read_stream(server.get(where))
    assert [number for number, _ in whole] == list(range(1, trained["last_seq"] + 1))
    assert [data["seq"] for _, data in whole] == [number for number, _ in whole]
    assert whole[0][1]["status"] == "queued" and whole[-1][1]["status"] == "succeeded"
    for seen in (1, 7, trained["last_seq"] - 1, trained["last_seq"]):
        assert read_stream(server.get(where, headers={"Last-Event-ID": str(seen)})) == whole[seen:]
        assert read_stream(server.get(where, params={"after": seen})) == whole[seen:]
    both = server.get(where, params={"after": 2}, headers={"Last-Event-ID": "5"})
    assert read_stream(both) == whole[5:]
    assert both.headers["content-type"].startswith("text/event-stream")


def test_metrics_keep_first_and_last_when_they_are_thinned_out(server: TestClient, trained: dict[str, Any]) -> None:
    where = f"/api/jobs/{trained['job_id']}/metrics"
    whole = server.get(where, params={"name": "loss"}).json()
    assert whole["steps"] == list(range(1, trained["progress"]["total_steps"] + 1))
    thin = server.get(where, params={"name": "loss", "points": 3}).json()
    assert len(thin["values"]) == 3
    assert (thin["steps"][0], thin["steps"][-1]) == (whole["steps"][0], whole["steps"][-1])
    heldout = server.get(where, params={"name": "heldout_loss"}).json()
    assert heldout["steps"][0] == 0 and heldout["values"][0] == trained["progress"]["heldout_loss_before"]
    check_error(server.get(where, params={"name": "mood"}), 422, "invalid")


def test_the_reproducing_curl_command_starts_the_same_job(
    server: TestClient, trained: dict[str, Any], body: dict[str, Any]
) -> None:
    sent = json.loads(trained["commands"]["curl"].split(" -d ")[1].strip("'"))
    plan = server.post("/api/plans", json={**sent, "dataset_id": body["dataset_id"]}).json()
    values = {name: value["value"] for name, value in plan["resolved"].items()}
    assert values == {name: value["value"] for name, value in trained["plan"]["resolved"].items()}
    assert trained["commands"]["cli"].startswith("affinage finetune ")


def test_the_log_of_the_trainer_can_be_read_from_its_end(server: TestClient, trained: dict[str, Any]) -> None:
    log = server.get(f"/api/jobs/{trained['job_id']}/logs", params={"max_bytes": 10}).json()
    assert len(log["text"]) <= 10


def test_a_repeated_start_with_the_same_key_is_one_job(server: TestClient, body: dict[str, Any]) -> None:
    headers = {"Idempotency-Key": "key-1"}
    first = server.post("/api/start-finetuning", json=body, headers=headers)
    again = server.post("/api/start-finetuning", json=body, headers=headers)
    assert first.status_code == again.status_code == 201
    assert first.json()["job_id"] == again.json()["job_id"]
    other = server.post("/api/start-finetuning", json={**body, "seed": 1}, headers=headers)
    check_error(other, 409, "conflict")
    server.post(f"/api/jobs/{first.json()['job_id']}/cancel")


def test_many_equal_starts_at_once_are_one_job(server: TestClient, body: dict[str, Any]) -> None:
    def start(_: int) -> tuple[int, str]:
        answer = server.post("/api/start-finetuning", json=body, headers={"Idempotency-Key": "key-2"})
        return answer.status_code, answer.json().get("job_id", answer.text)

    before = len(server.get("/api/jobs").json()["jobs"])
    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(start, range(16)))
    assert len(answers) == 1
    ((status, job_id),) = answers
    assert status == 201
    assert len(server.get("/api/jobs").json()["jobs"]) == before + 1
    server.post(f"/api/jobs/{job_id}/cancel")


def test_a_running_job_holds_its_device_until_it_is_cancelled(
    server: TestClient, trained: dict[str, Any], body: dict[str, Any]
) -> None:
    studio = server.app.state.studio  # type: ignore[attr-defined]
    chat_socket = studio.workers.ensure("cpu")
    job_id = server.post("/api/start-finetuning", json={**body, "num_epochs": 1000}).json()["job_id"]
    wait_for(server, job_id, "running")

    waiting = server.post("/api/start-finetuning", json=body).json()
    assert waiting["status"] == "queued"
    assert server.post(f"/api/jobs/{waiting['job_id']}/cancel").json()["status"] == "cancelled"

    check_error(server.delete(f"/api/jobs/{job_id}"), 409, "conflict")
    check_error(server.post(f"/api/jobs/{job_id}/chat", json={"prompt": "Hello"}), 409, "conflict")
    check_error(server.get(f"/api/jobs/{job_id}/report"), 409, "conflict")

    with studio.database.reading() as session:
        conversation = inference_service.prepare(
            studio,
            session,
            trained["job_id"],
            messages=[Message(role="user", content="What is the code of box 3?")],
            generation=Generation(max_new_tokens=4),
            compare=False,
        )
    answer = inference_service.answer(studio, conversation)
    assert next(answer).waiting is True
    worker = find_listener(chat_socket)
    assert worker is not None
    os.kill(worker, signal.SIGKILL)  # the answer will need a new one

    assert server.post(f"/api/jobs/{job_id}/cancel").json()["status"] in ("cancelling", "cancelled")
    assert server.post(f"/api/jobs/{job_id}/cancel").status_code == 200
    wait_for(server, job_id, "cancelled")
    again = server.post(f"/api/jobs/{job_id}/cancel")
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")
    assert server.delete(f"/api/jobs/{job_id}").status_code == 204
    check_error(server.get(f"/api/jobs/{job_id}"), 404, "not_found")

    last = list(answer)[-1]
    assert (last.finished, last.error_key) == (True, None)


def test_a_job_that_has_succeeded_cannot_be_cancelled(server: TestClient, trained: dict[str, Any]) -> None:
    check_error(server.post(f"/api/jobs/{trained['job_id']}/cancel"), 409, "conflict")


def test_the_tuned_model_and_the_original_answer_after_each_other(server: TestClient, trained: dict[str, Any]) -> None:
    where = f"/api/jobs/{trained['job_id']}/chat"
    question = {"prompt": "What is the code of box 3?", "max_new_tokens": 8, "compare": True}
    deltas = [data for _, data in read_stream(server.post(where, json=question))]
    assert {delta["target"] for delta in deltas} == {"tuned", "base"}
    ends = [delta for delta in deltas if delta["finished"]]
    assert [end["error"] for end in ends] == [None, None]
    again = [data for _, data in read_stream(server.post(where, json=question))]
    spoken = ["".join(delta["delta"] for delta in answer if delta["target"] == "tuned") for answer in (deltas, again)]
    assert spoken[0] == spoken[1] != ""


def test_models_jobs_and_checkpoints_answer_beside_each_other(
    server: TestClient, trained: dict[str, Any], tiny_model: Path
) -> None:
    job_id = trained["job_id"]
    targets = [{"model": str(tiny_model)}, {"job_id": job_id}, {"job_id": job_id}]
    answer = server.post("/api/chat", json={"prompt": "What is the code of box 3?", "max_new_tokens": 8, "targets": targets})
    deltas = [data for _, data in read_stream(answer)]
    said = ["".join(delta["delta"] for delta in deltas if delta["target"] == place) for place in "012"]
    assert said[1] == said[2] != said[0]
    assert [delta["error"] for delta in deltas if delta["finished"]] == [None] * 3


@pytest.mark.parametrize(
    "targets, status, code",
    [
        ([{"job_id": "job-unknown"}], 404, "not_found"),
        ([{"model": "no-such-model"}], 404, "not_found"),
        ([{"model": "gpt2-xl"}], 409, "model_unavailable"),
        ([{"model": "gpt2", "job_id": "a"}], 422, "invalid"),
        ([{"model": "gpt2", "checkpoint": "checkpoint-1"}], 422, "invalid"),
        ([], 422, "invalid"),
    ],
)
def test_targets_that_cannot_answer_are_refused_before_the_stream(
    server: TestClient, targets: list[dict[str, str]], status: int, code: str
) -> None:
    check_error(server.post("/api/chat", json={"prompt": "Hi", "targets": targets}), status, code)


def test_a_checkpoint_that_a_job_does_not_have_is_not_found(server: TestClient, trained: dict[str, Any]) -> None:
    targets = [{"job_id": trained["job_id"], "checkpoint": "../adapter"}]
    check_error(server.post("/api/chat", json={"prompt": "Hi", "targets": targets}), 404, "not_found")


@pytest.mark.parametrize(
    "question",
    [
        {},
        {"prompt": "a", "messages": [{"role": "user", "content": "a"}]},
        {"prompt": "  "},
        {"messages": []},
        {"messages": [{"role": "assistant", "content": "a"}]},
        {"prompt": "a", "temperature": 6},
        {"prompt": "a", "max_new_tokens": 0},
        {"messages": [{"role": "wizard", "content": "a"}]},
    ],
)
def test_a_question_that_is_none_is_refused_before_anything_is_loaded(
    server: TestClient, trained: dict[str, Any], question: dict[str, Any]
) -> None:
    check_error(server.post(f"/api/jobs/{trained['job_id']}/chat", json=question), 422, "invalid")


@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/events"),
        ("GET", "/metrics"),
        ("GET", "/report"),
        ("GET", "/logs"),
        ("POST", "/cancel"),
        ("POST", "/chat"),
    ],
)
def test_an_unknown_job_is_not_found_by_any_route(client: TestClient, method: str, path: str) -> None:
    body = {"prompt": "Hello"} if path == "/chat" else None
    answer = client.request(method, f"/api/jobs/job-unknown{path}", json=body)
    assert "job-unknown" in check_error(answer, 404, "not_found")["message"]


def test_jobs_are_listed_in_pages_newest_first(server: TestClient, trained: dict[str, Any]) -> None:
    everything = [job["job_id"] for job in server.get("/api/jobs").json()["jobs"]]
    first = [job["job_id"] for job in server.get("/api/jobs", params={"limit": 1}).json()["jobs"]]
    rest = [job["job_id"] for job in server.get("/api/jobs", params={"after": first[0]}).json()["jobs"]]
    assert first + rest == everything and trained["job_id"] in everything


def test_the_download_of_a_model_that_is_here_is_done(server: TestClient, tiny_model: Path) -> None:
    answer = server.get(f"/api/models/{tiny_model}/download")
    assert (answer.status_code, answer.json()["state"]) == (200, "done")
    assert server.post(f"/api/models/{tiny_model}/download").json()["state"] == "done"
    check_error(server.get("/api/models/no-such-model/download"), 404, "not_found")


def test_without_the_hub_a_download_and_a_start_say_what_to_do(
    server: TestClient, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    before = len(server.get("/api/jobs").json()["jobs"])
    error = check_error(server.post("/api/models/gpt2/download"), 503, "hub_unreachable")
    assert "HF_ENDPOINT" in error["hint"]
    check_error(server.post("/api/start-finetuning", json={**body, "model_name": "gpt2"}), 503, "hub_unreachable")
    assert len(server.get("/api/jobs").json()["jobs"]) == before
    assert server.get("/api/models/gpt2/download").json()["state"] == "idle"


def test_nothing_is_measured_while_a_training_runs(
    server: TestClient, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration_service, "COMMAND", (sys.executable, "-c", "raise SystemExit(3)"))
    job_id = server.post("/api/start-finetuning", json={**body, "num_epochs": 1000}).json()["job_id"]
    wait_for(server, job_id, "running")
    problem = check_error(server.post("/api/hardware/calibrate", headers=FRENCH), 409, "conflict")
    assert "entraînement" in problem["message"]
    assert server.get(f"/api/jobs/{job_id}").json()["status"] == "running"
    server.post(f"/api/jobs/{job_id}/cancel")
    wait_for(server, job_id, "cancelled")
    # Now the measurement begins: what stands in its place here ends at once, with an error.
    check_error(server.post("/api/hardware/calibrate"), 500, "internal")
    assert server.get("/api/hardware").json()["calibration"] is None
