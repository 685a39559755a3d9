"""What the planner says over HTTP: plans with their bound and alternatives, its record of errors, the machine's speed."""

import json
import sys
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.contracts.calibration import SCHEMA, Calibration, find_torch_version
from app.contracts.record import JobRecord
from app.core.settings import Settings
from app.services import calibration_service
from app.storage.planner_dir import PlannerDir
from tests.api.conftest import FRENCH, check_error, dataset_id, upload

EMBEDDED = "HuggingFaceTB/SmolLM2-135M-Instruct"


def plan(client: TestClient, **fields: Any) -> dict[str, Any]:
    body = {"dataset_id": fields.pop("dataset_id", None) or dataset_id(client), "model_name": EMBEDDED, **fields}
    answer = client.post("/api/plans", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def record(job_id: str, planned: int, measured: int, seconds: float | None = 100.0) -> JobRecord:
    return JobRecord(
        job_id=job_id, name=f"job {job_id}", model_id="gpt2", device_id="cpu", device_kind="cpu", dtype="bfloat16",
        quantization="none", gradient_checkpointing=False, memory_method="traced", time_method="calibrated",
        finished_at="2026-11-22T12:00:00.000Z", planned_peak_bytes=planned, measured_peak_bytes=measured,
        planned_seconds=110.0, planned_seconds_p90=150.0, measured_seconds=seconds,
    )  # fmt: skip


def make_calibration(device_id: str, device_name: str) -> Calibration:
    return Calibration(
        schema_version=SCHEMA, device_kind="cpu" if device_id == "cpu" else "cuda", device_id=device_id,
        device_name=device_name, driver_version=None, torch_version=find_torch_version(), threads=2, lanes=2, alone=0.75,
        fused_attention=False,
        measured_at="2026-11-22T12:00:00.000Z", seconds=12.0, half_gflops=300.0, full_gflops=90.0, bandwidth_gb=6.0,
        launch_seconds=5e-6, products=[], steps=[], start_seconds=5.0, load_bytes_per_second=1e9, load_fixed_seconds=0.3,
        save_seconds=0.1, optimizer_bytes_per_second=1e9, context_bytes=None, noise=1.1,
        unrest=1.1, others_share=0.02, series=1, restless=False,
    )  # fmt: skip


def test_a_plan_tells_its_method_its_bound_and_each_automatic_value(client: TestClient) -> None:
    answer = plan(client, batch_size=4)
    assert (answer["objective"], answer["memory_method"]) == ("balanced", "closed_form")
    assert answer["time_method"] in {"table", "guessed"}
    assert answer["bound"]["factor"] >= 1 and answer["peak_bytes_upper"] >= answer["peak_bytes"]
    assert sum(answer["parts"].values()) == answer["peak_bytes"]
    assert answer["reserved_bytes"] is None
    batch = answer["resolved"]["batch_size"]
    assert (batch["value"], batch["origin"], batch["automatic"]) == (4, "user", 8)
    for value in answer["resolved"].values():
        if value["origin"] != "user":
            assert value["automatic"] == value["value"]


def test_each_alternative_is_a_request_that_gives_the_plan_it_promises(client: TestClient) -> None:
    data = dataset_id(client)
    first = plan(client, dataset_id=data)
    assert first["alternatives"]
    for alternative in first["alternatives"]:
        assert alternative["message"] and "{" not in alternative["message"]
        fixed = {"gradient_accumulation_steps": first["resolved"]["gradient_accumulation_steps"]["value"]}
        again = plan(client, dataset_id=data, **(fixed | alternative["changes"]))
        for name, value in alternative["changes"].items():
            assert again["resolved"][name]["value"] == value


@pytest.mark.parametrize("objective", ["speed", "balanced", "quality"])
def test_the_objective_is_the_users(client: TestClient, objective: str) -> None:
    answer = plan(client, objective=objective)
    assert (answer["objective"], answer["resolved"]["objective"]["origin"]) == (objective, "user")


def test_an_unknown_objective_names_the_field(client: TestClient) -> None:
    body = {"dataset_id": dataset_id(client), "model_name": EMBEDDED, "objective": "cheap"}
    assert "objective" in check_error(client.post("/api/plans", json=body), 422, "invalid")["message"]


@pytest.mark.parametrize("field", ["batch_size", "max_length", "num_epochs", "lora_rank", "gradient_accumulation_steps"])
@pytest.mark.parametrize("value", [-1, 0])
def test_sizes_below_one_are_refused_by_name(client: TestClient, field: str, value: int) -> None:
    body = {"dataset_id": "any", "model_name": EMBEDDED, field: value}
    assert field in check_error(client.post("/api/plans", json=body), 422, "invalid")["message"]


def test_one_row_of_a_hundred_thousand_words_gets_a_plan_that_says_what_is_cut(client: TestClient) -> None:
    answer = upload(client, "question,answer\nWhat?," + "word " * 100_000 + "\n", "long.csv")
    assert answer.status_code == 201, answer.text
    found = plan(client, dataset_id=answer.json()["dataset_id"])
    assert found["cut_rows_share"] == 1.0 and found["cut_tokens_share"] > 0.9
    assert any(reason["code"] == "rows_too_long" for reason in found["reasons"])
    assert found["steps"] > 0 and found["peak_bytes"] > 0


def test_before_the_first_job_there_is_no_record(client: TestClient) -> None:
    answer = client.get("/api/plans/record").json()
    nothing = {"count": 0, "peak_mean_abs_pct": None, "peak_worst_under_pct": None, "seconds_mean_abs_pct": None}
    assert answer == {"jobs": [], "summary": nothing}


def test_the_record_tells_how_wrong_the_planner_was(client: TestClient, settings: Settings) -> None:
    kept = PlannerDir(settings.data_dir / "planner")
    kept.append_record(record("first", planned=1100, measured=1000))
    kept.append_record(record("second", planned=950, measured=1000, seconds=None))
    answer = client.get("/api/plans/record").json()
    assert [job["job_id"] for job in answer["jobs"]] == ["second", "first"]
    assert answer["jobs"][1]["measured_seconds"] == 100.0
    assert answer["summary"] == {
        "count": 2,
        "peak_mean_abs_pct": pytest.approx(7.5),
        "peak_worst_under_pct": pytest.approx(5.0),
        "seconds_mean_abs_pct": pytest.approx(10.0),
    }


def test_a_plan_learns_from_the_jobs_of_this_machine(client: TestClient, settings: Settings) -> None:
    data = dataset_id(client)
    before = plan(client, dataset_id=data)["bound"]
    kept = PlannerDir(settings.data_dir / "planner")
    for number in range(19):
        kept.append_record(
            record(f"job-{number}", planned=1000, measured=1300).model_copy(update={"memory_method": "closed_form"})
        )
    after = plan(client, dataset_id=data)["bound"]
    assert (before["own_samples"], after["own_samples"]) == (0, 19)
    assert after["factor"] == pytest.approx(1.3) and after["confidence"] == 0.95


def test_a_machine_that_was_not_measured_says_so(client: TestClient) -> None:
    assert client.get("/api/hardware").json()["calibration"] is None


def test_an_unknown_device_cannot_be_measured(client: TestClient) -> None:
    check_error(client.post("/api/hardware/calibrate?device_id=cuda:7", headers=FRENCH), 404, "not_found")


def recommended(client: TestClient, query: str = "") -> dict[str, Any]:
    answer = client.get(f"/api/models/recommended{query}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_recommendations_rank_every_model_with_its_plan_and_reason(client: TestClient) -> None:
    answer = recommended(client)
    listed = {model["id"] for model in client.get("/api/models/available").json()["models"]}
    assert {model["id"] for model in answer["models"]} == listed
    assert [model["rank"] for model in answer["models"]] == list(range(1, len(listed) + 1))
    assert answer["dataset_id"] is None and answer["train_rows"] > 0
    for model in answer["models"]:
        assert model["reason"] and "{" not in model["reason"] and model["quality_source"]
        assert model["dominated"] == (model["dominated_by"] is not None)
        assert model["plan"]["batch_size"] * model["plan"]["gradient_accumulation_steps"] >= 1


def test_recommendations_are_made_for_ones_own_data(client: TestClient) -> None:
    data = dataset_id(client)
    answer = recommended(client, f"?dataset_id={data}&objective=speed")
    assert (answer["dataset_id"], answer["objective"], answer["train_rows"]) == (data, "speed", 40)
    times = [model["seconds_p50"] for model in answer["models"] if model["recommended"]]
    assert times == sorted(times)


def test_the_ranking_and_the_plan_of_a_model_name_the_same_time_whatever_the_rows_are(client: TestClient) -> None:
    pairs = [{"prompt": f"Cheese {n}?", "chosen": f"Yes, {n}.", "rejected": "No."} for n in range(60)]
    for name, rows in (("long.json", [{"text": "word " * 100_000}]), ("pairs.json", pairs)):
        data = upload(client, json.dumps(rows), name).json()["dataset_id"]
        ranked = {model["id"]: model for model in recommended(client, f"?dataset_id={data}")["models"]}
        for model_name in (EMBEDDED, "gpt2"):
            seconds = plan(client, dataset_id=data, model_name=model_name)["seconds_p50"]
            assert ranked[model_name]["seconds_p50"] == pytest.approx(seconds, rel=0.01), (name, model_name)


@pytest.mark.parametrize(
    "gigabytes, names",
    [
        (2, ("distilgpt2", "gpt2")),
        (4, ("gpt2", "gpt2-medium")),
        (6, ("gpt2-medium", "gpt2-large")),
        (8, ("gpt2-large",)),
        (12, ("meta-llama/Llama-2-7b-hf", "mistralai/Mistral-7B-v0.3")),
    ],
)
def test_the_hardware_table_of_the_specification_is_among_the_recommended(
    client: TestClient, gigabytes: int, names: tuple[str, ...]
) -> None:
    models = {model["id"]: model for model in recommended(client, f"?vram_gb={gigabytes}")["models"]}
    for name in names:
        assert models[name]["recommended"], name
        assert models[name]["peak_bytes_upper"] <= gigabytes * 2**30


def test_senseless_questions_about_memory_are_refused(client: TestClient) -> None:
    for query in ("vram_gb=0", "vram_gb=-6", "vram_gb=much", "vram_gb=nan", "objective=cheap"):
        check_error(client.get(f"/api/models/recommended?{query}"), 422, "invalid")
    check_error(client.get("/api/models/recommended?dataset_id=ds-nothing", headers=FRENCH), 404, "not_found")


@pytest.mark.parametrize("program", ["raise SystemExit(1)", "print('no answer')", "pass"])
def test_a_measurement_that_fails_names_its_log_and_keeps_nothing(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(calibration_service, "COMMAND", (sys.executable, "-c", program))
    error = check_error(client.post("/api/hardware/calibrate"), 500, "internal")
    assert "calibration.log" in error["hint"]
    assert client.get("/api/hardware").json()["calibration"] is None


def test_a_kept_measurement_is_shown_until_the_engine_changes(client: TestClient, settings: Settings) -> None:
    best = client.get("/api/hardware").json()["devices"][0]
    kept = PlannerDir(settings.data_dir / "planner")
    measured = make_calibration(device_id=best["id"], device_name=best["name"])
    kept.write_calibration(measured)
    shown = client.get("/api/hardware").json()["calibration"]
    assert (shown["full_gflops"], shown["measured_at"]) == (90.0, "2026-11-22T12:00:00.000Z")
    kept.write_calibration(measured.model_copy(update={"torch_version": "0.1"}))
    assert client.get("/api/hardware").json()["calibration"] is None


@pytest.mark.parametrize(
    ("others_share", "language", "words"),
    [(0.4, "en", "Other programs used 40 %"), (0.01, "fr", "tantôt rapide, tantôt lente")],
)
def test_a_machine_that_stayed_restless_is_told_in_the_readers_language(
    client: TestClient, settings: Settings, others_share: float, language: str, words: str
) -> None:
    best = client.get("/api/hardware").json()["devices"][0]
    measured = make_calibration(best["id"], best["name"])
    kept = PlannerDir(settings.data_dir / "planner")
    kept.write_calibration(measured.model_copy(update={"restless": True, "others_share": others_share}))
    shown = client.get("/api/hardware", headers={"Accept-Language": language}).json()["calibration"]
    assert shown["restless"] and words in shown["notice"]["message"]
    kept.write_calibration(measured)
    assert client.get("/api/hardware").json()["calibration"]["notice"] is None
