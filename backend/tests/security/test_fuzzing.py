"""Requests that the OpenAPI document allows, and requests that it does not, made by schemathesis: no defect, nothing told.

The application is the real one with a data set and a cancelled job; nobody supervises, so that nothing is trained. The same
requests in every run; `AFFINAGE_FUZZ=200` makes so many new ones of each operation.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

import app
from app.core.settings import Settings
from app.main import create_app
from tests.api.conftest import ADDRESS, dataset_id
from tests.engine.tiny import write_llama

ASKED = int(os.environ.get("AFFINAGE_FUZZ", "0"))
SLOW = {"/api/models/recommended", "/api/models/available", "/api/start-finetuning", "/api/plans"}
"""Each plans every model, or one: fewer requests."""
LEFT_OUT = {("POST", "/api/hardware/calibrate"): "occupies the machine for half a minute, whatever it is asked"}
SCHEMA = schemathesis.openapi.from_dict(create_app(Settings(data_dir=Path("/nonexistent"))).openapi())
SCHEMA.config.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
OPERATIONS = [
    operation.ok()
    for operation in SCHEMA.get_all_operations()
    if (operation.ok().method.upper(), operation.ok().path) not in LEFT_OUT
]
OUR_ERROR, OPENAIS_ERROR = {"code", "message", "hint", "details"}, {"code", "message", "type", "param"}
FIELDS = ("method", "url", "headers", "files", "data", "params", "cookies", "json")
NOT_TO_BE_TOLD = ("Traceback", 'File "', "site-packages", str(Path(app.__file__).parent), "sqlalchemy", "SELECT ")


class Target:
    """The application, and ids that exist in it."""

    def __init__(self, folder: Path) -> None:
        self.client = TestClient(create_app(Settings(data_dir=folder / "data")), base_url=ADDRESS, raise_server_exceptions=False)
        self.client.__enter__()
        studio = self.client.app.state.studio  # type: ignore[attr-defined]
        studio.supervisor.stop()
        self.ids = {"dataset_id": dataset_id(self.client), "model_id": "gpt2", "export_format": "adapter", "name": "README.md"}
        write_llama(folder / "data" / "mine")
        start = {"dataset_id": self.ids["dataset_id"], "model_name": str(folder / "data" / "mine")}
        answer = self.client.post("/api/start-finetuning", json=start)
        assert answer.status_code == 201, answer.text
        self.ids["job_id"] = answer.json()["job_id"]
        ended = self.client.post(f"/api/jobs/{self.ids['job_id']}/cancel")  # the stream of events of a job that waits has no end
        assert ended.json()["status"] == "cancelled", ended.text


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    os.environ["HF_HUB_OFFLINE"] = "1"
    made = Target(tmp_path_factory.mktemp("fuzzed"))
    yield made
    made.client.__exit__(None, None, None)
    del os.environ["HF_HUB_OFFLINE"]


def test_every_operation_is_fuzzed_but_those_that_are_named() -> None:
    document = SCHEMA.raw_schema["paths"]
    named = {(method.upper(), path) for path, methods in document.items() for method in methods}
    fuzzed = {(operation.method.upper(), operation.path) for operation in OPERATIONS}
    assert fuzzed | set(LEFT_OUT) == named and {path.split("/")[1] for _, path in fuzzed} == {"api", "v1"}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: f"{operation.method.upper()} {operation.path}")
def test_no_request_makes_the_server_fail_or_talk(operation: Any, target: Target) -> None:
    count = ASKED or (2 if operation.path in SLOW else 4)

    @settings(max_examples=count, deadline=None, derandomize=not ASKED, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(), real=st.booleans())
    def ask(case: Any, real: bool) -> None:
        if real and operation.method.upper() != "DELETE":
            case.path_parameters.update({name: target.ids[name] for name in case.path_parameters if name in target.ids})
        asked = {name: value for name, value in case.as_transport_kwargs(base_url=ADDRESS).items() if name in FIELDS}
        sent = requests.Request(**asked).prepare()
        assert sent.method and sent.url
        answer = target.client.request(sent.method, sent.url, headers=dict(sent.headers), content=sent.body or b"")
        documented = operation.definition.raw["responses"]
        assert answer.status_code < 500 or answer.status_code == 503, (asked, answer.text)
        if answer.status_code != 405:  # methods are not fuzzed; a path parameter with a slash may lead elsewhere
            assert str(answer.status_code) in documented or answer.status_code in (403, 404, 413, 415), (asked, answer.text)
        if answer.status_code >= 400:
            theirs = answer.request.url.path.startswith("/v1/")
            assert set(answer.json()["error"]) == (OPENAIS_ERROR if theirs else OUR_ERROR)
        for word in NOT_TO_BE_TOLD:
            assert word not in answer.text or word in str(asked), (asked, word)

    ask()
