"""compose.yaml publishes on loopback only and shows an edited catalogue after a restart. No daemon is needed for this."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
DOCKER_COMPOSE = shutil.which("docker-compose")


def load(name: str) -> dict[str, Any]:
    """Return a compose file as it is written."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / name).read_text("utf-8"))
    return loaded


def test_the_api_service_listens_for_the_host_only() -> None:
    api = load("compose.yaml")["services"]["api"]
    assert api["ports"] == ["127.0.0.1:8000:8000"]
    assert api["environment"]["AFFINAGE_PUBLISHED_ON_LOOPBACK"] == "1"
    assert api["environment"]["AFFINAGE_HOST"] == "0.0.0.0"
    assert api["restart"] == "unless-stopped"
    assert api["healthcheck"]["test"][0] == "CMD"


def test_only_compose_says_that_the_port_is_published_on_loopback() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    setting = "AFFINAGE_PUBLISHED_ON_LOOPBACK"
    code = [name for name in files if name.endswith((".yaml", ".toml", "Dockerfile", "Makefile", ".sh")) or name == ".ci/run"]
    assert [name for name in code if setting in (ROOT / name).read_text("utf-8")] == ["compose.yaml"]


def test_data_lies_in_a_volume_and_the_code_is_mounted_read_only_over_the_image() -> None:
    api = load("compose.yaml")["services"]["api"]
    assert "data:/data" in api["volumes"] and api["environment"]["AFFINAGE_DATA_DIR"] == "/data"
    assert "./backend/app:/app/backend/app:ro" in api["volumes"]
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    assert "WORKDIR /app" in dockerfile and "COPY backend backend" in dockerfile


def test_the_image_runs_the_commands_of_the_makefile_and_not_as_root() -> None:
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    targets = {
        line.split(":")[0] for line in (ROOT / "Makefile").read_text("utf-8").splitlines() if ":  ##" in line or ": " in line
    }
    ran = [line.removeprefix("RUN make ") for line in lines if line.startswith("RUN make ")]
    assert ran == ["setup", "page"] and set(ran) <= targets
    assert not any("pip install" in line or "npm " in line for line in lines)
    assert "USER affinage" in lines and lines.index("USER affinage") < lines.index('CMD ["affinage", "serve"]')


@pytest.mark.skipif(DOCKER_COMPOSE is None, reason="docker-compose is not installed")
@pytest.mark.parametrize("override", [None, "compose.gpu.yaml", "compose.postgres.yaml"])
def test_docker_compose_accepts_the_file(override: str | None) -> None:
    files = ["-f", "compose.yaml", *(["-f", override] if override else [])]
    done = subprocess.run(
        [str(DOCKER_COMPOSE), *files, "config", "-q"],
        cwd=ROOT,
        env={**os.environ, "POSTGRES_PASSWORD": "secret"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
