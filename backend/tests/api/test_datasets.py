"""Data sets over HTTP."""

import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.core.settings import Settings
from app.main import create_app
from tests.api.conftest import ADDRESS, CSV, FRENCH, check_error, dataset_id, upload


def test_an_upload_is_imported_and_listed(client: TestClient) -> None:
    answer = upload(client, name="Boxes")
    assert answer.status_code == 201
    body = answer.json()
    assert (body["name"], body["format"], body["shape"], body["rows"]) == ("Boxes", "csv", "question_answer", 60)
    assert body["splits"] == {"train": 40, "heldout": 20}
    assert answer.headers["location"] == f"/api/datasets/{body['dataset_id']}"
    assert client.get(answer.headers["location"]).json() == body
    assert client.get("/api/datasets").json() == {"datasets": [body]}


def test_data_sets_are_listed_newest_first(client: TestClient) -> None:
    made = [upload(client, name=name).json()["dataset_id"] for name in ("one", "two", "three")]
    assert [entry["dataset_id"] for entry in client.get("/api/datasets").json()["datasets"]] == made[::-1]


def test_too_few_rows_for_a_split_are_said_in_the_readers_language(client: TestClient) -> None:
    small = "".join(CSV.splitlines(keepends=True)[:11])
    found = upload(client, small).json()["dataset_id"]
    english = client.get(f"/api/datasets/{found}").json()
    french = client.get(f"/api/datasets/{found}", headers=FRENCH).json()
    assert english["splits"]["heldout"] == 0
    assert "Nothing is held out" in english["notices"][0]
    assert "rien n’est mis de côté" in french["notices"][0]


def test_rows_are_shown_as_imported_and_as_examples(client: TestClient) -> None:
    page = client.get(f"/api/datasets/{dataset_id(client)}/rows", params={"offset": 58, "limit": 5}).json()
    assert (page["total"], page["offset"], len(page["rows"])) == (60, 58, 2)
    row = page["rows"][0]
    assert row["row"] == 59 and row["values"]["question"] == "What is the code of box 59?"
    assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"]


def test_the_mapping_can_be_changed(client: TestClient) -> None:
    found = dataset_id(client)
    answer = client.put(f"/api/datasets/{found}/mapping", json={"shape": "text", "text": "answer"})
    assert answer.status_code == 200
    assert answer.json()["shape"] == "text"
    assert client.get(f"/api/datasets/{found}/rows").json()["rows"][0]["text"] == "The code of box 1 is 17."


def test_a_mapping_that_names_no_column_is_refused_and_changes_nothing(client: TestClient) -> None:
    found = dataset_id(client)
    answer = client.put(f"/api/datasets/{found}/mapping", json={"shape": "text", "text": "no such column"})
    check_error(answer, 422, "dataset_invalid")
    assert client.get(f"/api/datasets/{found}").json()["shape"] == "question_answer"


def test_tokens_show_what_is_trained_and_where_the_cut_falls(settings: Settings, tiny_model: Path) -> None:
    with TestClient(create_app(settings.model_copy(update={"model_roots": str(tiny_model.parent)})), base_url=ADDRESS) as client:
        where = f"/api/datasets/{dataset_id(client)}/tokens"
        whole = client.get(where, params={"row": 3, "model": str(tiny_model)}).json()
        cut = client.get(where, params={"row": 3, "model": str(tiny_model), "max_length": 16}).json()
    assert whole["full_length"] == len(whole["tokens"]) == cut["full_length"]
    assert cut["tokens"] == whole["tokens"][:16]
    trained = "".join(token["text"] for token in whole["tokens"] if token["trained"])
    assert trained.startswith("The code of box 3 is 31.")


def test_a_report_tells_how_long_the_rows_are_and_that_all_is_well(settings: Settings, tiny_model: Path) -> None:
    with TestClient(create_app(settings.model_copy(update={"model_roots": str(tiny_model.parent)})), base_url=ADDRESS) as client:
        where = f"/api/datasets/{dataset_id(client)}"
        asked = {"model": str(tiny_model), "max_length": 24, "long_rows": "truncate"}
        report = client.get(f"{where}/token-report", params={**asked, "max_length": 512}).json()
        cut = client.get(f"{where}/token-report", params=asked, headers=FRENCH).json()
        automatic = client.get(f"{where}/token-report", params={"model": str(tiny_model), "max_length": 24}).json()
        shown = client.get(f"{where}/tokens", params={"row": 60, "model": str(tiny_model)}).json()
    assert (report["rows"], report["rows_counted"], report["startable"]) == (60, 60, True)
    assert {check["status"] for check in report["checks"]} == {"passed"} and len(report["checks"]) == 5
    assert sum(found["rows"] for found in report["histogram"]) == 60
    assert report["longest"] >= shown["full_length"] > 24 and 0 < report["trained_share"] < 1
    assert (cut["startable"], cut["cut_rows_share"]) == (False, 1.0)
    failed = next(check for check in cut["checks"] if check["status"] == "failed")
    assert failed["check"] == "end_of_turn" and "jetons" in failed["message"] and failed["rows"]
    assert (automatic["long_rows"], automatic["startable"]) == ("split", True) and "divided" in automatic["long_rows_reason"]


def test_a_start_is_refused_where_the_rows_already_hold_a_template(settings: Settings, tiny_model: Path) -> None:
    rows = [{"prompt": f"### Instruction:\nAdd {n}.\n\n### Response:\n", "completion": f"It is {n}."} for n in range(60)]
    with TestClient(create_app(settings.model_copy(update={"model_roots": str(tiny_model.parent)})), base_url=ADDRESS) as client:
        found = upload(client, json.dumps(rows), "rows.json").json()["dataset_id"]
        body = {"dataset_id": found, "model_name": str(tiny_model)}
        warned = client.post("/api/plans", json=body).json()["warnings"]
        refused = client.post("/api/start-finetuning", json=body)
        assert client.get("/api/jobs").json()["jobs"] == []
    assert warned[0]["code"] == "dataset_invalid" and "template" in warned[0]["message"]
    error = check_error(refused, 422, "dataset_invalid")
    assert error["message"] == warned[0]["message"] and [detail["row"] for detail in error["details"]] == [1, 2, 3, 4, 5]


def test_a_preferred_and_a_rejected_answer_are_shown_as_tokens(settings: Settings, tiny_model: Path) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "Bye"}]
    rows = [
        {
            "prompt": turns,
            "chosen": [{"role": "assistant", "content": f"Good {n}."}],
            "rejected": [{"role": "assistant", "content": "No."}],
        }
        for n in range(5)
    ]
    with TestClient(create_app(settings.model_copy(update={"model_roots": str(tiny_model.parent)})), base_url=ADDRESS) as client:
        where = f"/api/datasets/{upload(client, json.dumps(rows), 'rows.json').json()['dataset_id']}/tokens"
        asked = {"row": 1, "model": str(tiny_model)}
        trained = [
            "".join(token["text"] for token in client.get(where, params={**asked, **more}).json()["tokens"] if token["trained"])
            for more in ({}, {"rejected": True}, {"method": "sft"})
        ]
    assert trained[0].startswith("Good 0.") and trained[1].startswith("No.")
    assert trained[2].startswith("Yes?") and "Good 0." in trained[2]


def test_a_data_set_is_deleted_with_its_files(client: TestClient, settings: Settings) -> None:
    found = dataset_id(client)
    assert client.delete(f"/api/datasets/{found}").status_code == 204
    check_error(client.get(f"/api/datasets/{found}"), 404, "not_found")
    assert list((settings.data_dir / "datasets").iterdir()) == []


@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", ""),
        ("DELETE", ""),
        ("PUT", "/mapping"),
        ("GET", "/rows"),
        ("GET", "/tokens?row=1&model=gpt2"),
    ],
)
def test_an_unknown_data_set_is_not_found_by_any_route(client: TestClient, method: str, path: str) -> None:
    for name in ("ds-unknown", ".hidden", "%2e%2e%2fjobs"):
        body = {"shape": "text", "text": "x"} if method == "PUT" else None
        answer = client.request(method, f"/api/datasets/{name}{path}", json=body)
        check_error(answer, 404, "not_found")
    french = client.get("/api/datasets/ds-unknown", headers=FRENCH)
    assert "« ds-unknown »" in check_error(french, 404, "not_found")["message"]


@pytest.mark.parametrize(
    "query, field", [("offset=-1", "offset"), ("limit=0", "limit"), ("limit=201", "limit"), ("limit=x", "limit")]
)
def test_a_page_out_of_range_names_the_field(client: TestClient, query: str, field: str) -> None:
    error = check_error(client.get(f"/api/datasets/{dataset_id(client)}/rows?{query}"), 422, "invalid")
    assert error["details"][0]["field"] == field and field in error["message"]


def test_an_upload_without_a_file_says_how_to_send_one(client: TestClient) -> None:
    assert "curl" in check_error(client.post("/api/datasets", json={}), 422, "invalid")["hint"]
    check_error(client.post("/api/datasets", data={"name": "x"}), 422, "invalid")
    check_error(client.post("/api/datasets", files={"other": ("a.csv", b"a")}), 422, "invalid")


@pytest.mark.parametrize(
    "content, filename, status, code",
    [
        (b"", "empty.csv", 422, "dataset_invalid"),
        (b"question,answer\n", "head.csv", 422, "dataset_invalid"),
        (b"PK\x03\x04" + b"\0" * 200, "table.xlsx", 422, "dataset_invalid"),
        (b'{"a": ', "torn.json", 422, "dataset_invalid"),
    ],
)
def test_a_file_that_is_no_data_set_is_refused_and_leaves_nothing(
    client: TestClient, settings: Settings, content: bytes, filename: str, status: int, code: str
) -> None:
    check_error(upload(client, content, filename), status, code)
    assert client.get("/api/datasets").json() == {"datasets": []}
    assert list((settings.data_dir / "datasets").iterdir()) == list((settings.data_dir / "tmp").iterdir()) == []


def test_an_upload_beyond_the_quota_is_refused_and_leaves_nothing(settings: Settings) -> None:
    small = settings.model_copy(update={"max_upload_bytes": 1000})
    with TestClient(create_app(small), base_url=ADDRESS) as client:
        check_error(upload(client, CSV), 413, "too_large")
        assert list((settings.data_dir / "tmp").iterdir()) == []


def test_data_sets_outlive_the_server_and_a_lost_database(settings: Settings) -> None:
    with TestClient(create_app(settings), base_url=ADDRESS) as client:
        found = dataset_id(client)
    for file in settings.data_dir.glob("affinage.db*"):
        file.unlink()
    with TestClient(create_app(settings), base_url=ADDRESS) as client:
        assert [entry["dataset_id"] for entry in client.get("/api/datasets").json()["datasets"]] == [found]


def test_the_sample_is_imported_once(client: TestClient) -> None:
    first = client.post("/api/datasets/sample")
    again = client.post("/api/datasets/sample")
    assert first.status_code == again.status_code == 201
    assert again.json()["dataset_id"] == first.json()["dataset_id"]
    assert first.json()["splits"] == {"train": 180, "heldout": 20}
    assert len(client.get("/api/datasets").json()["datasets"]) == 1


def test_another_mapping_is_previewed_and_nothing_is_changed(client: TestClient) -> None:
    found = dataset_id(client)
    before = client.get(f"/api/datasets/{found}").json()
    swapped = {"shape": "question_answer", "instruction": "answer", "output": "question"}
    page = client.post(f"/api/datasets/{found}/mapping/preview", json=swapped, params={"limit": 2}).json()
    assert (page["total"], len(page["rows"])) == (60, 2)
    assert [turn["content"] for turn in page["rows"][0]["messages"]] == ["The code of box 1 is 17.", "What is the code of box 1?"]
    incomplete = client.post(f"/api/datasets/{found}/mapping/preview", json={**swapped, "output": None})
    check_error(incomplete, 422, "dataset_invalid")
    assert client.get(f"/api/datasets/{found}").json() == before


def test_how_far_an_import_is_can_be_asked_by_the_name_that_its_sender_gave_it(client: TestClient) -> None:
    check_error(client.get("/api/imports/none-of-mine"), 404, "not_found")
    with client.app.state.studio.imports.watching("mine-0001", lambda: False) as watch:  # type: ignore[attr-defined]
        watch("reading", 5, 10)
        answer = client.get("/api/imports/mine-0001").json()
    assert (answer["stage"], answer["done_bytes"], answer["total_bytes"]) == ("reading", 5, 10)
    assert client.post("/api/datasets", params={"import_id": "mine-0001"}, files={"file": ("a.csv", CSV)}).status_code == 201
    check_error(client.get("/api/imports/mine-0001"), 404, "not_found")
    check_error(client.post("/api/datasets", params={"import_id": "../x"}, files={"file": ("a.csv", CSV)}), 422, "invalid")
