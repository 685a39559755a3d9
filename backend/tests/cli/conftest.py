"""A data folder per test, a small file, and a tiny model that is made once."""

import csv
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import Affinage, Commands


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    made = Commands(tmp_path_factory.mktemp("commands"))
    yield made
    made.close()


@pytest.fixture
def affinage(tmp_path: Path, commands: Commands) -> Affinage:
    """The command on an empty data folder. That of test_doctor.py starts as a user's does."""
    return Affinage(tmp_path / "data", commands)


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Sixty questions and answers: enough for held-out rows."""
    return write_questions(tmp_path / "sums.csv", 60)


def write_questions(path: Path, count: int) -> Path:
    """Write a CSV file of sums."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer"])
        writer.writerows([f"{number} + 1?", f"{number + 1}."] for number in range(count))
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random Llama of two layers, as `affinage doctor` uses it."""
    folder = tmp_path_factory.mktemp("tiny")
    subprocess.run([sys.executable, "-m", "app.training.selftest", str(folder)], check=True, capture_output=True, timeout=120)
    return folder / "model"
