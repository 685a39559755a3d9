"""Tiny models, written once per test run."""

import os
from pathlib import Path

# Before torch is loaded. Matrices of 32 columns gain nothing from threads, and on a busy machine they wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

from tests.engine.tiny import write_gpt2, write_llama, write_qwen2


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Answering sets torch's threads to the cores that are idle. Left so, the next test would train in lanes."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gpt2(tmp_path_factory.mktemp("models") / "tiny-gpt2")


@pytest.fixture(scope="session")
def qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_qwen2(tmp_path_factory.mktemp("models") / "tiny-qwen2")
