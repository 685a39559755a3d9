"""Nothing that is imported can run code, become a path, or reach another machine."""

import ast
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError

import app
from app.api import page
from app.contracts.dataset import Example, Message
from app.core.errors import AffinageError, Forbidden, ModelUnavailable
from app.datasets.template import ChatTemplate
from app.datasets.tokens import show_tokens
from app.storage.model_store import ModelStore
from tests.api.conftest import dataset_id
from tests.api.test_jobs import wait_for
from tests.engine.tiny import write_llama
from tests.security.conftest import CANARY
from tests.unit.datasets.models import chatml_model

SOURCES = sorted(Path(app.__file__).parent.rglob("*.py"))
CALLS_OF_A_SHELL = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "eval", "exec", "compile"}
READERS_OF_PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
METADATA = ("http://169.254.169.254/latest", "https://evil.example/x", "file:///etc/passwd", "//evil.example/x", "http://[::1]/")
ESCAPES = [
    "{{ lipsum.__globals__['os'].system('touch ' + path) }}",
    "{{ cycler.__init__.__globals__.os.system('touch ' + path) }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__base__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ raise_exception.__globals__ }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{{ dict.__call__.__globals__ }}",
    "{{ messages.append(1) }}",
    "{{ strftime_now.__self__.__class__.__subclasses__() }}",
]


def calls() -> list[tuple[Path, ast.Call]]:
    """Return every call in the package."""
    trees = ((path, ast.parse(path.read_text("utf-8"))) for path in SOURCES)
    return [(path, node) for path, tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_no_call_trusts_remote_code_and_none_uses_a_shell() -> None:
    """CVE-2026-58116, CVE-2026-46517, CVE-2026-86169 (an omitted value counts as a choice); CVE-2024-52803, CVE-2026-0596."""
    trusting = 0
    for path, call in calls():
        name = ast.unparse(call.func)
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        assert name not in CALLS_OF_A_SHELL, (path, call.lineno)
        if "shell" in keywords:
            assert ast.unparse(keywords["shell"]) == "False", (path, call.lineno)
        if "trust_remote_code" in keywords:
            assert ast.unparse(keywords["trust_remote_code"]) == "False", (path, call.lineno)
            trusting += 1
        if re.fullmatch(r"Auto(Config|ModelFor\w+|Tokenizer)\.(from_pretrained|from_config)", name):
            assert "trust_remote_code" in keywords, (path, call.lineno)
    assert trusting >= 5


def test_no_module_can_read_a_pickle() -> None:
    """CVE-2025-53002, CVE-2025-32434, CVE-2026-24747: weights are safetensors, optimizer and random state too."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert READERS_OF_PICKLES.isdisjoint(name.partition(".")[0] for name in names), path
    loading = {ast.unparse(call.func) for _, call in calls()} & {"torch.load", "torch.save", "np.load", "numpy.load", "yaml.load"}
    assert not loading


def write_model(folder: Path, **config: object) -> Path:
    """Write a model folder that brings code of its own, which leaves a file behind when it runs."""
    folder.mkdir(parents=True)
    code = f"open({str(folder / CANARY)!r}, 'w').close()\nclass Evil: pass\n"
    (folder / "modeling_evil.py").write_text(code)
    auto_map = {"AutoConfig": "modeling_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"}
    (folder / "config.json").write_text(json.dumps({"auto_map": auto_map, **config}))
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def test_code_that_a_model_brings_is_never_run(tmp_path: Path) -> None:
    """CVE-2026-58116, CVE-2026-5241: known and unknown types, `trust_remote_code` inside the file included."""
    folders = [
        write_model(tmp_path / "unknown", model_type="evil", trust_remote_code=True),
        write_model(tmp_path / "known", model_type="llama", hidden_size=16, nested={"trust_remote_code": True}),
    ]
    program = (
        "import sys\nfrom transformers import AutoConfig, AutoModelForCausalLM\n"
        "for folder in sys.argv[1:]:\n"
        "    try:\n"
        "        c = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)\n"
        "        AutoModelForCausalLM.from_pretrained(folder, config=c, local_files_only=True, trust_remote_code=False,"
        " use_safetensors=True)\n"
        "    except Exception as e: print(type(e).__name__)\n"
        "    else: print('loaded')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, folders)], capture_output=True, text=True, timeout=120, check=True
    )
    assert len(done.stdout.split()) == 2 and "loaded" not in done.stdout
    assert not any((folder / CANARY).exists() for folder in folders)


def wait_for_failure(client: TestClient, job_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while (job := client.get(f"/api/jobs/{job_id}").json())["status"] not in ("succeeded", "failed"):
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
    found: dict[str, Any] = job
    return found


def test_a_model_that_brings_code_is_trained_by_transformers_own_class_and_refused_where_there_is_none(
    opened: TestClient,
) -> None:
    data_dir: Path = opened.app.state.studio.settings.data_dir  # type: ignore[attr-defined]
    for name, known in (("known", True), ("unknown", False)):
        folder = write_llama(data_dir / name)
        code = f"open({str(data_dir / CANARY)!r}, 'w').close()\nclass Evil: pass\n"
        for module in ("modeling_evil", "tokenization_evil"):
            (folder / f"{module}.py").write_text(code)
        auto_map = {"AutoConfig": "modeling_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"}
        unknown = {} if known else {"model_type": "evil", "architectures": ["EvilForCausalLM"]}
        tokenizer = {"auto_map": {"AutoTokenizer": ["tokenization_evil.Evil", None]}}
        for file, more in (("config.json", {"auto_map": auto_map, **unknown}), ("tokenizer_config.json", tokenizer)):
            (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | more))
        body = {"dataset_id": dataset_id(opened), "model_name": str(folder), "num_epochs": 1, "report_rows": 0}
        answer = opened.post("/api/start-finetuning", json=body)
        assert answer.status_code == 201, answer.text
        job_id = answer.json()["job_id"]
        if known:
            wait_for(opened, job_id, "succeeded")
        else:
            error = wait_for_failure(opened, job_id)["error"]
            assert error["code"] == "model_unavailable" and "the code that it brings" in error["message"], error
    assert not (data_dir / CANARY).exists()
    exec(compile(code, "modeling_evil.py", "exec"), {})  # the canary itself works
    assert (data_dir / CANARY).exists()


@pytest.mark.parametrize("name", ["model_type", "architectures"])
def test_a_type_that_is_no_plain_name_is_refused(opened: TestClient, name: str) -> None:
    """CVE-2026-93348: a newline in `model_type` became Python source."""
    data_dir = opened.app.state.studio.settings.data_dir  # type: ignore[attr-defined]
    evil = f"llama\nimport os; os.mkdir('{CANARY}')"
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]} | {name: evil if name == "model_type" else [evil]}
    folder = write_model(data_dir / "mine", **config)
    answer = opened.post("/api/models", json={"model": str(folder)})
    assert answer.status_code == 415, answer.text
    assert not Path(CANARY).exists()


@pytest.mark.parametrize("source", ESCAPES)
def test_a_chat_template_cannot_leave_its_sandbox(source: str, tmp_path: Path) -> None:
    """CVE-2024-34359, CVE-2026-5760, PYSEC-2026-387."""
    canary = tmp_path / CANARY
    try:
        rendered = ChatTemplate(source.replace("path", repr(str(canary))), {}).render(
            [Message(role="user", content="hi")], add_generation_prompt=False
        )
    except (TemplateError, ModelUnavailable):
        pass
    else:
        assert "<class" not in rendered and "function" not in rendered
    assert not canary.exists()


def test_a_chat_template_that_grows_ends_with_a_sentence(tmp_path: Path) -> None:
    """CVE-2026-115911, CVE-2026-115918: rendered in a child with limits, never in the server. Loops: test_tokens."""
    model = chatml_model(tmp_path / "model", "{{ 'a' * 4000000000 }}")
    with pytest.raises(AffinageError):
        show_tokens(
            Example(row=1, messages=[Message(role="user", content="a"), Message(role="assistant", content="b")]), model, 64
        )


def test_the_child_that_renders_templates_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    from app.datasets import tokens

    seen: dict[str, dict[str, str]] = {}

    class Stop(Exception):
        pass

    def record(*arguments: object, env: dict[str, str], **_: object) -> None:
        seen["env"] = env
        raise Stop

    for name in ("HF_TOKEN", "AFFINAGE_DATABASE_URL", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setattr(tokens.subprocess, "run", record)
    with pytest.raises(Stop):
        tokens._run_child(["show", "x", "1"], b"", 1.0)
    assert CANARY not in json.dumps(seen["env"]) and seen["env"]["PATH"] == os.environ["PATH"]


PIECES = ["..", "/", "\\", "%2e", "%252e", "%2f", "%c0%ae", "\0", "~", "C:", "\\\\host", "x", "\n"]
NAMES = st.one_of(
    st.text(max_size=40),
    st.builds(
        "".join,
        st.lists(
            st.sampled_from(["..", "/", "\\", "%2e", "%252e", "%2f", "%c0%ae", "\0", "~", "C:", "\\\\host", "x", "\n"]),
            max_size=8,
        ),
    ),
)


@pytest.fixture(scope="module")
def studio_client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    from app.core.settings import Settings
    from app.main import create_app
    from tests.api.conftest import ADDRESS

    folder = tmp_path_factory.mktemp("names")
    (folder / "outside.txt").write_text(CANARY)
    client = TestClient(create_app(Settings(data_dir=folder / "data")), base_url=ADDRESS, raise_server_exceptions=False)
    client.__enter__()
    return client


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=NAMES)
@example("../outside.txt")
@example("..%2foutside.txt")
@example("\0")
@example("-rf")
@example("$(touch canary)")
def test_a_name_from_outside_is_never_a_path(studio_client: TestClient, name: str) -> None:
    """CVE-2023-1177, CVE-2024-8859, CVE-2025-11201, CVE-2026-2033, CVE-2026-44566 and the rest of their family."""
    from urllib.parse import quote

    try:
        part = quote(name, safe="")
    except UnicodeEncodeError:
        return
    for method, path in (
        ("GET", "/api/datasets/{}"), ("GET", "/api/datasets/{}/rows"), ("DELETE", "/api/datasets/{}"), ("GET", "/api/jobs/{}"),
        ("GET", "/api/jobs/{}/logs"), ("DELETE", "/api/jobs/{}"), ("DELETE", "/api/models/{}"), ("DELETE", "/api/tokens/{}"),
        ("GET", "/assets/{}"), ("GET", "/{}"),
    ):  # fmt: skip
        answer = studio_client.request(method, path.format(part))
        assert answer.status_code < 500 or answer.text == page.NOT_BUILT, (method, path, name, answer.text)
        assert CANARY not in answer.text
        if path.startswith("/api") and name.strip("/"):
            assert answer.status_code in (200, 400, 404, 405, 409, 422), (method, path, name)


def test_files_of_the_data_folder_cannot_be_asked_for(opened: TestClient) -> None:
    """GHSA-q874-g24w-4q9g: the file with the credentials, the database and the locks are no addresses."""
    opened.post("/api/tokens", json={"name": "x"})
    for name in ("access/credentials.json", "affinage.db", "server.lock", "data/access/credentials.json"):
        for path in (f"/{name}", f"/..%2f{name}", f"/%2e%2e/{name}", f"/api/{name}", f"/assets/..%2f..%2f{name}"):
            assert (
                "sha256" not in opened.get(path).text and opened.get(path).headers["content-type"] != "application/octet-stream"
            )


def test_the_name_of_an_upload_is_a_title_and_nothing_else(opened: TestClient) -> None:
    data_dir: Path = opened.app.state.studio.settings.data_dir  # type: ignore[attr-defined]
    for name in ("../../evil.csv", "/etc/cron.d/evil.csv", "..\\evil.csv", "$(touch x).csv", "-rf.csv", "a" * 250 + ".csv"):
        assert opened.post("/api/datasets", files={"file": (name, "question,answer\na,b\nc,d\n")}).status_code in (201, 422)
    assert not list(data_dir.parent.glob("**/*evil*"))
    assert all(re.fullmatch(r"ds-[0-9a-f]{12}", folder.name) for folder in (data_dir / "datasets").iterdir())


def test_models_outside_the_allowed_folders_and_links_to_them_are_refused(tmp_path: Path) -> None:
    outside = write_model(tmp_path / "outside", model_type="llama")
    store = ModelStore(tmp_path / "data")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(outside)
    for asked in (outside, tmp_path / "data" / "link", tmp_path / "data" / ".." / "outside", "/etc"):
        with pytest.raises((Forbidden, ModelUnavailable)):
            store.find(str(asked))


def test_addresses_in_requests_are_never_fetched(opened: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """CVE-2026-2393, CVE-2026-45400, CVE-2022-36551, CVE-2026-28416: a model is a hub id or a folder, nothing is a URL."""
    import socket

    def refuse(*arguments: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for address in METADATA:
        assert opened.post("/api/models", json={"model": address}).status_code in (403, 404, 409, 422)
        body = {"dataset_id": "x", "model_name": address}
        assert opened.post("/api/plans", json=body).status_code in (403, 404, 409, 422)


def test_parts_that_once_had_holes_are_newer_than_these() -> None:
    """python-multipart CVE-2024-53981, 2026-40347, 2026-42561; torch CVE-2026-24747; transformers CVE-2026-5241."""
    floors = {"python-multipart": (0, 0, 27), "torch": (2, 10), "transformers": (5, 3)}
    for name, floor in floors.items():
        assert tuple(int(part) for part in re.findall(r"\d+", importlib.metadata.version(name))[:3]) >= floor


def test_a_secret_of_the_environment_reaches_no_file_and_no_answer(opened: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", CANARY)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    data_dir: Path = opened.app.state.studio.settings.data_dir  # type: ignore[attr-defined]
    found = dataset_id(opened)
    answers = [opened.get(path).text for path in ("/api/health", "/api/settings", "/api/hardware", "/api/models/available")]
    answers.append(opened.post("/api/models", json={"model": "org/name"}).text)
    answers.append(opened.post("/api/plans", json={"dataset_id": found, "model_name": "gpt2"}).text)
    assert not any(CANARY in text for text in answers)
    assert not any(CANARY.encode() in file.read_bytes() for file in data_dir.rglob("*") if file.is_file())
