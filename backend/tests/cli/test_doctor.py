"""`affinage doctor` trains for real, and says which link is broken."""

from pathlib import Path

import pytest

from tests.cli.command import Affinage


@pytest.mark.slow
def test_doctor_trains_three_steps_and_loads_the_adapter(tmp_path: Path) -> None:
    outcome = Affinage(tmp_path / "data")("doctor", "--json", seconds=280)
    assert outcome.status == 0, outcome.stdout + outcome.stderr
    checks = {check["name"]: check for check in outcome.document["checks"]}
    needed = ["python", "packages", "engine", "data_dir", "sqlite", "disk", "training", "adapter"]
    assert {name: checks[name]["state"] for name in needed} == dict.fromkeys(needed, "ok")
    assert checks["training"]["detail"].count("→") == 2
    assert checks["hub"]["state"] == "warning" and checks["hub"]["hint"]


def test_doctor_names_a_data_folder_that_cannot_be_used_and_exits_with_1(tmp_path: Path) -> None:
    in_the_way = tmp_path / "data"
    in_the_way.write_text("a file, not a folder")
    outcome = Affinage(in_the_way)("doctor", "--json")
    assert outcome.status == 1
    assert outcome.document["ok"] is False
    checks = {check["name"]: check for check in outcome.document["checks"]}
    assert checks["data_dir"]["state"] == "failed" and checks["data_dir"]["hint"]
    assert "training" not in checks
