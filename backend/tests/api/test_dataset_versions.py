"""Findings, fixes, edits, versions, bad rows and exports over HTTP."""

import json
import time
from typing import Any

from fastapi.testclient import TestClient

from tests.api.conftest import CSV, FRENCH, check_error, dataset_id, upload

EXTRA = "What is the code of box 1?,The code of box 1 is 17.\nWhose?,Ask anna@example.org for it.\n,Nothing asked.\nragged\n"


def looked_at(client: TestClient, found: str, language: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the findings, once they are there."""
    for _ in range(600):
        body: dict[str, Any] = client.get(f"/api/datasets/{found}/analysis", headers=language).json()
        if body["state"] != "running":
            return body
        time.sleep(0.1)
    raise AssertionError("the second look has not ended")


def test_a_second_look_names_findings_in_the_readers_language_and_a_fix_makes_a_version(client: TestClient) -> None:
    found = upload(client, CSV + EXTRA).json()["dataset_id"]
    body = looked_at(client, found)
    assert body["state"] == "done" and body["rows"] == 62
    findings = {finding["code"]: finding for finding in body["findings"]}
    assert findings["exact_duplicates"]["rows"] == [{"row": 61, "other": 1, "text": ""}]
    assert findings["emails"]["remedy"] == "mask" and "e-mail" in findings["emails"]["message"]
    french = {finding["code"]: finding for finding in looked_at(client, found, FRENCH)["findings"]}
    assert "adresses électroniques" in french["emails"]["message"]

    answer = client.post(f"/api/datasets/{found}/fixes", json={"findings": ["exact_duplicates", "emails", "bad_rows"]})
    assert answer.status_code == 201
    version = answer.json()
    assert answer.headers["location"] == f"/api/datasets/{version['dataset_id']}"
    assert (version["version"], version["parent"], version["origin"]) == (2, found, found)
    assert (version["rows"], version["problem_count"]) == (61, 0)
    assert [change["code"] for change in version["changes"]] == ["exact_duplicates", "emails", "bad_rows", "unread_rows"]
    rows = client.get(f"/api/datasets/{version['dataset_id']}/rows", params={"offset": 60}).json()["rows"]
    assert rows[0]["values"] == {"question": "Whose?", "answer": "Ask [email] for it."}
    listed = client.get(f"/api/datasets/{version['dataset_id']}/versions").json()["datasets"]
    assert [each["dataset_id"] for each in listed] == [found, version["dataset_id"]]
    assert client.get(f"/api/datasets/{found}").json()["rows"] == 62


def test_a_fix_looks_first_where_nobody_has_looked(client: TestClient) -> None:
    found = upload(client, CSV + EXTRA).json()["dataset_id"]
    answer = client.post(f"/api/datasets/{found}/fixes", json={"findings": ["exact_duplicates"]})
    assert answer.status_code == 201 and answer.json()["rows"] == 61
    refused = client.post(f"/api/datasets/{found}/fixes", json={"findings": ["secrets"]})
    assert check_error(refused, 422, "invalid")["hint"].startswith("Known here: ")


def test_rows_are_edited_and_added_as_a_new_version(client: TestClient) -> None:
    found = dataset_id(client)
    body = {
        "edited": [{"row": 1, "values": {"answer": "A new one."}}, {"row": 2, "values": None}],
        "added": [{"question": "New?", "answer": "Yes."}],
    }
    version = client.post(f"/api/datasets/{found}/edits", json=body).json()
    rows = client.get(f"/api/datasets/{version['dataset_id']}/rows", params={"limit": 200}).json()
    assert rows["total"] == 60
    assert rows["rows"][0]["values"] == {"question": "What is the code of box 1?", "answer": "A new one."}
    assert rows["rows"][-1]["values"] == {"question": "New?", "answer": "Yes."}
    check_error(client.post(f"/api/datasets/{found}/edits", json={"edited": [{"row": 61, "values": None}]}), 422, "invalid")


def test_bad_rows_are_downloaded_with_their_reasons(client: TestClient) -> None:
    found = upload(client, CSV + EXTRA).json()["dataset_id"]
    answer = client.get(f"/api/datasets/{found}/bad-rows")
    assert "attachment" in answer.headers["content-disposition"]
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [(line["row"], line["problems"][0]["code"]) for line in lines] == [(63, "empty_prompt"), (64, "cells_missing")]
    assert lines[0]["values"] == {"question": "", "answer": "Nothing asked."}


def test_rows_are_exported_in_a_shape_that_holds_them_and_refused_in_others(client: TestClient) -> None:
    found = dataset_id(client)
    answer = client.get(f"/api/datasets/{found}/export", params={"shape": "alpaca"})
    first = json.loads(answer.text.splitlines()[0])
    assert (first["instruction"], first["output"]) == ("What is the code of box 1?", "The code of box 1 is 17.")
    assert answer.headers["content-type"] == "application/x-ndjson"
    check_error(client.get(f"/api/datasets/{found}/export", params={"shape": "text"}), 422, "invalid")


def test_what_is_asked_of_no_data_set_is_not_found(client: TestClient) -> None:
    for path in ("analysis", "versions", "bad-rows", "export"):
        check_error(client.get(f"/api/datasets/ds-none/{path}"), 404, "not_found")
    check_error(client.post("/api/datasets/ds-none/fixes", json={"findings": ["emails"]}), 404, "not_found")
    check_error(client.post("/api/datasets/ds-none/edits", json={}), 404, "not_found")
