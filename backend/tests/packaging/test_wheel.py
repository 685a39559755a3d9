"""The wheel holds page and migrations, installs into another environment and serves."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "frontend" / "dist"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy, so that nothing is left in the tree; without a built page, with a page of one line."""
    folder = tmp_path_factory.mktemp("build")
    unwanted = shutil.ignore_patterns("__pycache__", "tests", ".*", "*.egg-info")
    shutil.copytree(ROOT / "backend", folder / "backend", ignore=unwanted)
    if (PAGE / "index.html").is_file():
        shutil.copytree(PAGE, folder / "frontend" / "dist")
    else:
        (folder / "frontend" / "dist").mkdir(parents=True)
        (folder / "frontend" / "dist" / "index.html").write_text("<!doctype html><title>Affinage</title>")
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder / "out"),
        str(folder / "backend"),
    ]
    built = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = (folder / "out").glob("*.whl")
    return found


def test_the_wheel_holds_page_migrations_sentences_and_the_sample(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"app/web/index.html", "app/core/locales/fr.json", "app/assets/helpdesk.csv"} <= names
    assert any(name.startswith("app/migrations/versions/") and name.endswith(".py") for name in names)
    assert not any("__pycache__" in name or name.startswith("tests/") for name in names)


def test_no_wheel_without_the_page(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "backend", tmp_path / "backend", ignore=shutil.ignore_patterns("__pycache__", "tests", ".*"))
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path / "out"),
        str(tmp_path / "backend"),
    ]
    built = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert built.returncode != 0
    assert "make page" in built.stdout + built.stderr


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a fresh environment; its dependencies are lent by this one, so that no network is needed."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(folder / "bin" / "python"),
        "install",
        "--no-deps",
        "--no-index",
        str(wheel),
    ]
    done = subprocess.run(install, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


@pytest.fixture
def address(installed: Path, tmp_path: Path) -> Iterator[str]:
    """Serve from the installed wheel, away from the checkout."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AFFINAGE_", "PYTHON"))}
    environment = {**kept, "AFFINAGE_DATA_DIR": str(tmp_path / "data"), "HF_HUB_OFFLINE": "1"}
    command = [str(installed / "bin" / "affinage"), "serve", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        found = f"http://127.0.0.1:{port}"
        wait_until_healthy(found, server, tmp_path / "log")
        yield found
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=60) in (0, -signal.SIGTERM), (tmp_path / "log").read_text()
    finally:
        server.kill()


def wait_until_healthy(address: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait for the first good answer."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/api/health", timeout=5) as answer:
                assert answer.status == 200
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())


def test_an_installed_wheel_serves_page_and_api(address: str, installed: Path) -> None:
    with urllib.request.urlopen(f"{address}/training", timeout=30) as page:
        assert "<title>" in page.read().decode()
        assert page.headers["content-type"].startswith("text/html")
    with urllib.request.urlopen(f"{address}/api/models/available", timeout=60) as answer:
        assert any(model["id"] == "gpt2" for model in json.load(answer)["models"])
    where = subprocess.run(
        [str(installed / "bin" / "python"), "-c", "import app.main; print(app.main.__file__)"],
        cwd=installed,
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(installed)), "the server under test must be the installed one, not the checkout"
