"""Tokens, sessions, launch codes: what they open, how they end, and that nothing works without one."""

import asyncio
import json
import os
import pwd
import re
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from starlette.routing import Mount
from starlette.websockets import WebSocketDisconnect

from app.api import page, streams
from app.cli.application import run
from app.contracts.events import StatusChanged
from app.contracts.status import JobStatus
from app.core.errors import Forbidden
from app.core.settings import Settings
from app.jobs.ingest import ingest
from app.main import create_app, serve
from app.services.access_service import Access
from app.services.exposure import find_other_people
from app.storage.access_file import PREFIXES, AccessFile
from app.storage.repositories import Jobs
from tests.api.conftest import ADDRESS, check_error
from tests.security.conftest import Guarded
from tests.unit.jobs.conftest import make_job

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE")
FOR_STRANGERS = {"/api/health", "/api/session"}


def every_address(app: FastAPI) -> list[str]:
    """Return each address of the API, its parts filled in."""
    paths = {context.path for context in iter_route_contexts(app.routes) if context.path is not None}
    return sorted(re.sub(r"\{[^}]*\}", "x", path) for path in paths if path.startswith(("/api", "/v1", "/openapi")))


def test_every_route_and_method_answers_401_without_a_credential(guarded: Guarded) -> None:
    addresses = every_address(guarded.app)
    assert len(addresses) >= 20 and "/openapi.json" in addresses and "/api/jobs/x/events" in addresses
    for path in set(addresses) - FOR_STRANGERS:
        for method in METHODS:
            answer = guarded.client.request(method, path)
            assert answer.status_code == 401, (method, path, answer.status_code)
            assert answer.headers["www-authenticate"] == "Bearer"
    check_error(guarded.client.get("/api/nothing"), 401, "unauthorized")
    there = guarded.client.get("/v1/models")
    assert (there.status_code, there.json()["error"]["code"]) == (401, "invalid_api_key"), "OpenAI's clients read their own body"


def test_the_list_for_strangers_is_exactly_health_and_signing_in(guarded: Guarded) -> None:
    passed = {path for path in every_address(guarded.app) if guarded.client.get(path).status_code != 401}
    assert passed == FOR_STRANGERS


def test_what_is_mounted_or_added_later_is_behind_the_gate_too(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path, require_token=True))
    inner = FastAPI()

    @inner.get("/secret")
    def secret() -> str:
        return "inner secret"

    @app.websocket("/api/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()

    app.mount("/mounted", inner)
    app.router.routes.insert(0, app.router.routes.pop())
    with TestClient(app, base_url=ADDRESS) as client:
        assert "inner secret" not in client.get("/mounted/secret").text
        token = app.state.access.create("x", None)[1]
        assert "inner secret" in client.get("/mounted/secret", headers={"Authorization": f"Bearer {token}"}).text
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/api/socket"):
            pass


SPELLINGS = (
    "//api/jobs", "/api//jobs", "/api/jobs/", "/./api/jobs", "/x/../api/jobs", "/api/./jobs", "/API/jobs", "/Api/Jobs",
    "/api/jobs;x", "/api/jobs#x", "/api/jobs?x", "/api\\jobs", "\\api\\jobs", "/api/jobs\0", " /api/jobs", "api/jobs",
    "/api/health/../jobs", "/api/session/../jobs", "/api/health/", "/api/health;/../jobs", "/v1//models", "/openapi.json/",
    "/%61pi/jobs", "*", "", "http://localhost:8000/api/jobs",
)  # fmt: skip
"""As they arrive after decoding: servers and proxies before us disagree on how an address is read."""


async def ask_plainly(app: FastAPI, method: str, path: str) -> tuple[int, str]:
    """Send one request as it is, without a client that tidies the address up; return status and body."""
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"",
        "headers": [(b"host", b"localhost:8000")], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000), "state": {},
    }  # fmt: skip
    sent: list[dict[str, Any]] = []

    bodies = [b""]

    async def receive() -> dict[str, Any]:
        if not bodies:
            await asyncio.Event().wait()  # the visitor stays, and says nothing more
        return {"type": "http.request", "body": bodies.pop(), "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]).decode()


def test_no_unusual_spelling_of_an_address_reaches_more_than_a_stranger_may(guarded: Guarded) -> None:
    for spelling in SPELLINGS:
        for method in METHODS:
            status, body = asyncio.run(ask_plainly(guarded.app, method, spelling))
            assert status in (200, 307, 401, 404, 405, 503), (method, spelling)  # 503: the page is not built
            if status == 200:  # the page, which knows every address, or health
                assert body == "" or body.lstrip().lower().startswith("<!doctype html") or '"status":"ok"' in body, (
                    spelling,
                    body,
                )


def test_nothing_is_mounted_beside_the_api_and_the_page(guarded: Guarded) -> None:
    """CVE-2026-2652: what lies outside of the guarded addresses is what strangers are served too, and nothing more."""
    paths = {context.path for context in iter_route_contexts(guarded.app.routes) if context.path is not None}
    outside = {path for path in paths if not path.startswith(("/api/", "/v1/")) and path not in ("/openapi.json", "/api", "/v1")}
    pages = {context.path for context in iter_route_contexts(page.router.routes) if context.path is not None}
    assert outside and outside <= pages | {"/docs"}
    assert not [route for route in guarded.app.routes if isinstance(route, Mount)]


def test_a_token_opens_every_route_and_a_wrong_one_none(guarded: Guarded) -> None:
    assert guarded.client.get("/api/jobs", headers=guarded.bearer).json() == {"jobs": []}
    id_part = guarded.token.rpartition("_")[0]
    for wrong in ("", "password", "x" * 5000, id_part, f"{id_part}_", guarded.token[:-1], guarded.token + "x", "\u00e9"):
        answer = guarded.client.get("/api/jobs", headers={"Authorization": f"Bearer {wrong}".encode()})
        check_error(answer, 401, "unauthorized")
    check_error(guarded.client.get("/api/jobs", headers={"Authorization": f"Basic {guarded.token}"}), 401, "unauthorized")
    check_error(guarded.client.get(f"/api/jobs?token={guarded.token}&access_token={guarded.token}"), 401, "unauthorized")


def test_a_token_becomes_a_cookie_that_scripts_and_other_sites_cannot_use(guarded: Guarded) -> None:
    assert guarded.client.get("/api/session").json() == {"required": True, "signed_in": False, "name": None}
    check_error(guarded.client.post("/api/session", json={"token": "afn_0_x"}), 401, "unauthorized")
    answer = guarded.client.post("/api/session", json={"token": guarded.token})
    assert answer.status_code == 200 and guarded.token not in answer.text
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and guarded.token not in cookie and "Secure" not in cookie
    assert guarded.client.get("/api/jobs").status_code == 200
    assert guarded.client.get("/api/session").json()["name"] == "a script"
    secret = next(iter(guarded.client.cookies.values()))
    assert guarded.client.delete("/api/session").status_code == 204
    check_error(guarded.client.get("/api/jobs", cookies={"affinage_session_8000": secret}), 401, "unauthorized")


def test_behind_https_the_cookie_is_for_https_alone(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path, allowed_hosts="studio.example"))
    token = app.state.access.create("x", None)[1]
    with TestClient(app, base_url="https://studio.example") as client:
        answer = client.post("/api/session", json={"token": token}, headers={"Origin": "https://studio.example"})
        assert "Secure" in answer.headers["set-cookie"]


def test_a_session_is_no_token_and_a_token_is_no_session(guarded: Guarded) -> None:
    session = guarded.access.sign_in(token=guarded.token, code=None).secret
    check_error(guarded.client.get("/api/jobs", headers={"Authorization": f"Bearer {session}"}), 401, "unauthorized")
    check_error(guarded.client.get("/api/jobs", cookies={"affinage_session_8000": guarded.token}), 401, "unauthorized")


def test_revoking_a_token_ends_it_and_its_browsers_at_once(guarded: Guarded) -> None:
    guarded.client.post("/api/session", json={"token": guarded.token})
    elsewhere = AccessFile(guarded.access.settings.data_dir)  # as `affinage tokens revoke` beside a running server
    assert elsewhere.revoke(guarded.token_id)
    check_error(guarded.client.get("/api/jobs"), 401, "unauthorized")
    check_error(guarded.client.get("/api/jobs", headers=guarded.bearer), 401, "unauthorized")


@pytest.mark.parametrize("is_revoked", [True, False])
def test_an_open_stream_ends_when_its_token_is_revoked_and_not_before(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch, is_revoked: bool
) -> None:
    monkeypatch.setattr(streams, "RECHECK_SECONDS", 0.02)
    guarded.app.state.studio.supervisor.stop()  # the job stays queued
    job = make_job("job-waits")
    studio = guarded.app.state.studio
    studio.job_dir(job.job_id).create(job)
    studio.job_dir(job.job_id).append(StatusChanged(status=JobStatus.QUEUED))
    with studio.database.writing() as session:
        ingest(session, Jobs(session).add(job, studio.folder_id), studio.job_dir(job.job_id))
    sent: list[Any] = []

    async def follow() -> bool:
        asked, seen = asyncio.Queue[Any](), asyncio.Event()
        asked.put_nowait({"type": "http.request", "body": b"", "more_body": False})

        async def send(message: Any) -> None:
            sent.append(message)
            if message.get("body"):
                seen.set()

        headers = [(b"host", b"localhost:8000"), (b"authorization", guarded.bearer["Authorization"].encode())]
        scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET"}
        scope |= {"path": "/api/jobs/job-waits/events", "query_string": b"", "headers": headers, "scheme": "http"}
        scope |= {"raw_path": b"/api/jobs/job-waits/events", "root_path": "", "client": None, "server": ("localhost", 8000)}
        stream = asyncio.create_task(guarded.app(scope, asked.get, send))
        await asyncio.wait_for(seen.wait(), 60)
        if is_revoked:
            AccessFile(guarded.access.settings.data_dir).revoke(guarded.token_id)
            await asyncio.wait_for(stream, 60)
            return True
        await asyncio.sleep(0.3)
        ended = stream.done()
        asked.put_nowait({"type": "http.disconnect"})
        await asyncio.wait_for(stream, 60)
        return ended

    assert asyncio.run(follow()) is is_revoked
    assert sent[0]["status"] == 200 and b'"seq":1' in sent[1]["body"]
    assert (sent[-1].get("more_body") is False) is is_revoked  # whole for its reader; who went away needs no end


def test_a_launch_code_works_once_and_not_for_two_at_a_time(guarded: Guarded) -> None:
    code = guarded.access.make_launch_code()
    statuses: list[int] = []

    def use() -> None:
        statuses.append(TestClient(guarded.app, base_url=ADDRESS).post("/api/session", json={"code": code}).status_code)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [401] * 7
    assert guarded.client.get("/api/jobs", headers={"Authorization": f"Bearer {code}"}).status_code == 401


def test_what_has_expired_opens_nothing(guarded: Guarded) -> None:
    from datetime import timedelta

    _, old = guarded.access.file.add("token", "old", lasts=timedelta(seconds=-1))
    _, code = guarded.access.file.add("code", "old", lasts=timedelta(seconds=-1))
    check_error(guarded.client.get("/api/jobs", headers={"Authorization": f"Bearer {old}"}), 401, "unauthorized")
    check_error(guarded.client.post("/api/session", json={"code": code}), 401, "unauthorized")


def test_tokens_are_made_listed_and_revoked_over_http_and_shown_once(guarded: Guarded) -> None:
    made = guarded.client.post("/api/tokens", json={"name": "ci", "expires_in_days": 7}, headers=guarded.bearer)
    assert made.status_code == 201
    body = made.json()
    assert body["token"].startswith(PREFIXES["token"]) and body["expires_at"] > body["created_at"]
    listed = guarded.client.get("/api/tokens", headers=guarded.bearer)
    assert [token["name"] for token in listed.json()["tokens"]] == ["ci", "a script"]
    assert body["token"] not in listed.text and "sha256" not in listed.text
    assert guarded.client.delete(f"/api/tokens/{body['id']}", headers=guarded.bearer).status_code == 204
    check_error(guarded.client.delete(f"/api/tokens/{body['id']}", headers=guarded.bearer), 404, "not_found")
    check_error(guarded.client.post("/api/tokens", json={"name": "a\nb"}, headers=guarded.bearer), 422, "invalid")


def test_only_hashes_are_kept_in_a_file_of_its_owner_alone(guarded: Guarded) -> None:
    session = guarded.access.sign_in(token=guarded.token, code=None).secret
    kept = guarded.access.file.path.read_text()
    for secret in (guarded.token, session, guarded.token.rpartition("_")[2]):
        assert secret not in kept
    assert stat.S_IMODE(guarded.access.file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(guarded.access.file.folder.stat().st_mode) == 0o700


def test_two_installations_share_no_secret(tmp_path: Path, guarded: Guarded) -> None:
    other = Access(Settings(data_dir=tmp_path / "other", require_token=True))
    assert other.list() == [] and not other.has_token()
    assert other.file.find("token", guarded.token) is None


def test_an_address_that_others_reach_is_refused_before_the_port_is_taken(tmp_path: Path) -> None:
    with pytest.raises(Forbidden, match="nobody has an access token"):
        serve(Settings(data_dir=tmp_path, host="0.0.0.0", port=1))


@pytest.mark.parametrize(
    "settings", [{"host": "0.0.0.0"}, {"host": "::"}, {"allowed_hosts": "a.example"}, {"require_token": True}]
)
def test_anything_but_a_plain_loopback_asks_for_a_credential(tmp_path: Path, settings: dict[str, str]) -> None:
    app = create_app(Settings.model_validate({"data_dir": tmp_path, **settings}))
    with TestClient(app, base_url=ADDRESS) as client:
        check_error(client.get("/api/jobs"), 401, "unauthorized")


def test_other_people_of_the_machine_are_named_and_programs_accounts_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    accounts = {"root": (0, "/bin/bash"), "ada": (1000, "/bin/bash"), "me": (1001, "/usr/bin/zsh"), "mail": (8, "/bin/sh")}
    accounts |= {"nobody": (65534, "/bin/sh"), "service": (1002, "/usr/sbin/nologin"), "grace": (1003, "/bin/sh")}
    entries = [pwd.struct_passwd((name, "x", uid, uid, "", "/", shell)) for name, (uid, shell) in accounts.items()]
    monkeypatch.setattr(pwd, "getpwall", lambda: entries)
    monkeypatch.setattr(os, "getuid", lambda: 1001)
    assert find_other_people() == ["ada", "grace"]


@pytest.mark.parametrize(("option", "warned"), [([], True), (["--require-token"], False)])
def test_serving_openly_warns_where_others_have_accounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: list[str], warned: bool
) -> None:
    """Here only what is printed once the port is ours: that serving goes on then is proved by every live server."""
    entry = pwd.struct_passwd(("grace", "x", 1003, 1003, "", "/", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwall", lambda: [entry])
    monkeypatch.setattr("app.main.serve", lambda _settings, announce: announce(None))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    assert run(["serve", "--data-dir", str(tmp_path / "data"), *option]) == 0
    said = capsys.readouterr().out
    assert ("grace" in said) is warned and ("--require-token" in said) is warned, said


def test_the_page_itself_is_served_to_strangers_and_holds_no_secret(guarded: Guarded) -> None:
    guarded.access.make_launch_code()
    for path in ("/", "/sign-in", "/docs", "/jobs/x"):
        answer = guarded.client.get(path)
        assert answer.status_code in (200, 503)  # 503: not built here
        assert not re.search(r"af[nsc]_[0-9a-f]{16}", answer.text)


def test_settings_are_shown_without_passwords_and_cannot_be_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.services.settings_service import hide_password

    assert "hunter2" not in hide_password("postgresql://me:hunter2@db/affinage")
    with TestClient(create_app(Settings(data_dir=tmp_path)), base_url=ADDRESS) as client:
        listed = client.get("/api/settings").json()["settings"]
        assert {"model_roots", "max_upload_bytes", "require_token"} <= {setting["name"] for setting in listed}
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert client.request(method, "/api/settings", json={"model_roots": "/"}).status_code == 405
        assert json.dumps(listed) == json.dumps(client.get("/api/settings").json()["settings"])
