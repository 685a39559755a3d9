"""What a web page that the same person has open elsewhere can do to a server on this machine: nothing."""

import itertools
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.core.settings import Settings
from app.main import create_app
from app.services.exposure import answers_to
from tests.api.conftest import ADDRESS, check_error
from tests.security.conftest import Guarded
from tests.security.test_credentials import METHODS, every_address

REBOUND = ("evil.example", "evil.example:8000", "localhost.evil.example:8000", "127.0.0.1.nip.example", "localhost@evil.example")
ORIGINS = (
    "null",
    "https://evil.example",
    "http://localhost.evil.example:8000",
    "http://localhost:8001",
    "file://",
    "ftp://localhost:8000",
)
DOWNLOADED = ("application/x-ndjson", "application/jsonl", "application/octet-stream")
AGENTS = ("Mozilla/5.0", "curl/8", "python-requests/2", "")


def test_dns_rebinding_reaches_no_route_by_no_method_under_no_user_agent(opened: TestClient) -> None:
    """CVE-2025-62593, CVE-2026-27482: the guard is neither the User-Agent nor a list of methods."""
    for path, method in itertools.product([*every_address(opened.app), "/", "/upload"], METHODS):  # type: ignore[arg-type]
        answer = opened.request(method, path, headers={"Host": REBOUND[0], "User-Agent": AGENTS[0]})
        assert answer.status_code == 403, (method, path)
    for host, agent in itertools.product(REBOUND, AGENTS):
        check_error(opened.delete("/api/jobs/x", headers={"Host": host, "User-Agent": agent}), 403, "forbidden")


@pytest.mark.parametrize("origin", ORIGINS)
def test_no_page_of_another_origin_is_answered_by_any_method(opened: TestClient, origin: str) -> None:
    """CVE-2024-47165, CVE-2025-5320: no `null`, no look-alike, no other port, and never a CORS header."""
    for method in METHODS:
        answer = opened.request(method, "/api/jobs", headers={"Origin": origin})
        assert answer.status_code == 403, method
        assert not any(name.startswith("access-control-") for name in answer.headers)
    asked = {"Origin": origin, "Access-Control-Request-Method": "DELETE"}
    assert "access-control-allow-origin" not in opened.options("/api/jobs/x", headers=asked).headers


def test_a_signed_in_browser_is_not_used_by_other_sites(guarded: Guarded) -> None:
    guarded.client.post("/api/session", json={"token": guarded.token})
    assert guarded.client.post("/api/tokens", json={"name": "x"}, headers={"Origin": ADDRESS}).status_code == 201
    for origin in ORIGINS:
        answer = guarded.client.post("/api/tokens", json={"name": "x"}, headers={"Origin": origin})
        check_error(answer, 403, "forbidden")
    for site in ("cross-site", "same-site"):
        answer = guarded.client.get("/api/jobs", headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"})
        check_error(answer, 403, "forbidden")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None])
def test_a_simple_form_changes_nothing(opened: TestClient, kind: str | None) -> None:
    """CSRF by a form needs no Origin check to fail: bodies are read as JSON only."""
    headers = {"Content-Type": kind} if kind else {}
    answer = opened.post("/api/tokens", content=b'{"name": "planted"}', headers=headers)
    assert answer.status_code in (400, 415, 422)
    assert opened.get("/api/tokens").json() == {"tokens": []}


def test_no_answer_can_be_framed_sniffed_or_run_inline(opened: TestClient) -> None:
    for path in ("/", "/docs", "/api/health", "/api/nothing", "/openapi.json"):
        headers = opened.get(path).headers
        policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'self'" and "script-src" not in policy  # scripts follow default-src: no inline, no eval
        assert policy["frame-ancestors"] == "'none'" and policy["object-src"] == "'none'" and policy["base-uri"] == "'none'"
        assert headers["x-frame-options"] == "DENY" and headers["x-content-type-options"] == "nosniff"


def test_an_uploaded_name_or_row_is_answered_as_json_and_never_as_a_page(opened: TestClient) -> None:
    """CVE-2024-26152, CVE-2023-47115, CVE-2026-45314: stored text cannot become a page of ours."""
    evil = "<img src=x onerror=alert(1)><script>alert(1)</script>"
    rows = "question,answer\n" + f"{evil},{evil}\n" * 3
    made = opened.post("/api/datasets", files={"file": ("evil.html", rows, "text/html")}, data={"name": evil})
    assert made.status_code == 201
    for path in ("", "/rows"):
        answer = opened.get(f"/api/datasets/{made.json()['dataset_id']}{path}")
        assert answer.headers["content-type"] == "application/json" and answer.headers["x-content-type-options"] == "nosniff"


def test_what_can_be_downloaded_is_never_opened_as_a_page(opened: TestClient) -> None:
    """Nothing that somebody uploaded is a document of our origin: it is saved, under a name and a type of ours."""
    rows = "question,answer\n<script>alert(1)</script>,b\n,\nc,d\n"
    made = opened.post("/api/datasets", files={"file": ("evil.svg.html", rows, "image/svg+xml")}).json()["dataset_id"]
    for path in (f"/api/datasets/{made}/export", f"/api/datasets/{made}/bad-rows", f"/v1/files/{made}/content"):
        headers = opened.get(path).headers
        assert headers["content-disposition"].startswith(f'attachment; filename="{made}'), path
        assert headers["content-type"].partition(";")[0] in (
            "application/x-ndjson",
            "application/jsonl",
            "application/octet-stream",
        )
        assert headers["x-content-type-options"] == "nosniff"
    named = {
        operation["operationId"]
        for path in opened.get("/openapi.json").json()["paths"].values()
        for operation in path.values()
        for answer in operation["responses"].values()
        if any(kind not in ("application/json", "text/event-stream") for kind in answer.get("content", {}))
    }
    assert named <= {"export_rows", "list_bad_rows", "get_export_file", "get_file_content", "get_report_page"}, named


@pytest.mark.parametrize(
    "host, answered",
    [("192.168.1.5:8000", True), ("[fe80::1]:8000", True), ("studio.example", True), ("studio.example:8000", True),
     ("evil.example", False), ("studio.example.evil.example", False), ("localhost", True),
     ("localhost:99999", False), ("", False)],
)  # fmt: skip
def test_beyond_loopback_only_digits_and_named_hosts_are_answered(tmp_path: Path, host: str, answered: bool) -> None:
    settings = Settings(data_dir=tmp_path, host="0.0.0.0", allowed_hosts="studio.example")
    assert answers_to(settings, host) is answered


def test_two_host_headers_are_refused(tmp_path: Path) -> None:
    with TestClient(create_app(Settings(data_dir=tmp_path)), base_url=ADDRESS) as client:
        check_error(client.get("/api/health", headers=[("Host", "localhost"), ("Host", "evil.example")]), 403, "forbidden")
