"""Health, the page, errors that belong to no route, and who may talk to the server."""

import errno
import json
import stat
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from app.api import page
from app.core.errors import Forbidden
from app.core.settings import Settings
from app.main import create_app
from app.services.exposure import check_address
from app.storage import db
from app.storage.server_lock import AlreadyServed
from tests.api.conftest import ADDRESS, FRENCH, check_error


def test_health_names_versions_and_language(client: TestClient) -> None:
    answer = client.get("/api/health", headers=FRENCH)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["status"], body["language"]) == ("ok", "fr")
    assert tuple(map(int, body["sqlite"].split("."))) >= (3, 51, 3)


def test_hardware_lists_the_processor_last(client: TestClient) -> None:
    body = client.get("/api/hardware").json()
    assert body["devices"][-1]["id"] == "cpu"
    assert body["memory_total_bytes"] > 0 and body["disk_free_bytes"] > 0


def test_the_data_folder_belongs_to_its_owner_alone(client: TestClient, settings: Settings) -> None:
    for folder in (settings.data_dir, settings.data_dir / "run", settings.data_dir / "jobs"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("headers, word", [({}, "nothing"), (FRENCH, "rien")])
def test_an_unknown_address_below_api_answers_with_the_house_body(client: TestClient, headers: dict[str, str], word: str) -> None:
    for path in ("/api/nothing", "/api"):
        answer = client.get(path, headers=headers)
        assert word in check_error(answer, 404, "not_found")["message"].lower()
        assert answer.headers["content-language"] == ("fr" if headers else "en")
        check_error(client.post(path, json={}), 404, "not_found")


def test_a_wrong_method_says_so_and_which_are_allowed(client: TestClient) -> None:
    answer = client.put("/api/jobs")
    assert "PUT" in check_error(answer, 405, "method_not_allowed")["message"]
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("body", [b"{not json", b"\xff\xfe\x00", b'{"dataset_id": "d",}'])
def test_a_body_that_is_no_json_answers_400_with_the_house_body(client: TestClient, body: bytes) -> None:
    answer = client.post("/api/plans", content=body, headers={"Content-Type": "application/json"})
    check_error(answer, 400, "invalid")


def test_a_defect_shows_no_traceback_and_leaves_the_house_body(settings: Settings) -> None:
    app = create_app(settings)

    @app.get("/api/broken")
    def broken() -> None:
        raise RuntimeError("secret detail")

    app.router.routes.insert(0, app.router.routes.pop())
    with TestClient(app, base_url=ADDRESS, raise_server_exceptions=False) as client:
        answer = client.get("/api/broken")
    check_error(answer, 500, "internal")
    assert "secret" not in answer.text and "Traceback" not in answer.text


def test_a_database_that_others_hold_answers_busy_and_when_to_try_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "BUSY_MILLISECONDS", 100)
    with TestClient(create_app(settings), base_url=ADDRESS) as client:
        studio = client.app.state.studio  # type: ignore[attr-defined]
        with studio.database.writing() as session:
            session.execute(text("SELECT 1"))
            answer = client.post("/api/jobs/x/cancel")
    check_error(answer, 503, "busy")
    assert answer.headers["retry-after"] == "5"


def test_a_full_disk_answers_507(settings: Settings) -> None:
    app = create_app(settings)

    @app.get("/api/full")
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    app.router.routes.insert(0, app.router.routes.pop())
    with TestClient(app, base_url=ADDRESS) as client:
        check_error(client.get("/api/full"), 507, "disk_full")


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "192.168.1.5:8000"])
def test_a_foreign_host_is_refused(client: TestClient, host: str) -> None:
    check_error(client.get("/api/health", headers={"Host": host}), 403, "forbidden")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:9999", "[::1]:8000"])
def test_local_names_are_served(client: TestClient, host: str) -> None:
    assert client.get("/api/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example", "http://localhost:8001"])
def test_a_page_from_elsewhere_may_change_nothing(client: TestClient, origin: str) -> None:
    check_error(client.post("/api/plans", json={}, headers={"Origin": origin}), 403, "forbidden")
    check_error(client.delete("/api/jobs/x", headers={"Origin": origin}), 403, "forbidden")


def test_our_own_page_may(client: TestClient) -> None:
    check_error(client.delete("/api/jobs/x", headers={"Origin": ADDRESS}), 404, "not_found")


def test_every_answer_carries_the_security_headers(client: TestClient) -> None:
    refused = client.get("/api/health", headers={"Host": "evil.example"})
    for answer in (client.get("/api/health"), client.get("/upload"), client.get("/api/nothing"), refused):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy
        assert "script-src" not in policy and "unsafe-eval" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_body_beyond_the_limit_is_refused(client: TestClient) -> None:
    answer = client.post("/api/plans", content=b'"' + b"x" * (17 << 20) + b'"', headers={"Content-Type": "application/json"})
    check_error(answer, 413, "too_large")


def test_without_a_built_page_the_server_says_how_to_build_it(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "page_folder", lambda: None)
    answer = client.get("/upload")
    assert answer.status_code == 503 and "make page" in answer.text
    assert client.get("/api/health").status_code == 200


def test_the_built_page_is_served_with_its_routes_and_lasting_assets(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("the page")
    (folder / "docs.html").write_text("the reference")
    (folder / "assets" / "index-abc123.js").write_text("1")
    (tmp_path / "secret.txt").write_text("secret")
    monkeypatch.setattr(page, "page_folder", lambda: folder)
    for path in ("/", "/upload", "/jobs/some-id", "/datasets/x"):
        answer = client.get(path)
        assert (answer.status_code, answer.text, answer.headers["cache-control"]) == (200, "the page", "no-cache")
    assert client.get("/docs").text == "the reference"
    script = client.get("/assets/index-abc123.js")
    assert "immutable" in script.headers["cache-control"] and "javascript" in script.headers["content-type"]
    check_error(client.get("/assets/gone-000.js"), 404, "not_found")
    check_error(client.get("/favicon.ico"), 404, "not_found")
    for path in ("/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "//secret.txt"):
        assert "secret" not in client.get(path).text.replace("/secret", "").replace("secret.txt", "")


def test_the_openapi_document_names_the_body_of_every_error(client: TestClient) -> None:
    """The house's own, and at /v1 the one that OpenAI's clients read."""
    document = client.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        body = {"/api/": "ErrorBody", "/v1/": "OpenAIErrorBody"}[path[: path.index("/", 1) + 1]]
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    schema = answer["content"]["application/json"]["schema"]
                    assert schema == {"$ref": f"#/components/schemas/{body}"}, (path, status)
    assert "HTTPValidationError" not in json.dumps(document)


def test_no_page_from_elsewhere_is_needed_for_the_reference(client: TestClient) -> None:
    assert client.get("/redoc").text == client.get("/upload").text
    assert "cdn" not in client.get("/docs").text.lower()


def test_a_second_server_on_the_same_data_folder_is_refused(client: TestClient, settings: Settings) -> None:
    second = TestClient(create_app(settings), base_url=ADDRESS)
    with pytest.raises(AlreadyServed, match="already works on the data folder"), second:
        pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com"])
def test_an_address_that_others_reach_is_refused(host: str, tmp_path: Path) -> None:
    with pytest.raises(Forbidden, match="nobody has an access token"):
        check_address(Settings(data_dir=tmp_path, host=host), has_token=False)
    check_address(Settings(data_dir=tmp_path, host=host), has_token=True)


def test_the_container_may_listen_on_all_addresses_and_still_checks_the_host(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, host="0.0.0.0", published_on_loopback=True)
    check_address(settings, has_token=False)
    with TestClient(create_app(settings), base_url="http://evil.example") as client:
        check_error(client.get("/api/health"), 403, "forbidden")
