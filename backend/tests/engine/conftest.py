"""Tiny models, written once per test run."""

import os
from collections.abc import Iterator
from pathlib import Path

# Before torch is loaded. Matrices of 32 columns gain nothing from threads, and on a busy machine they wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

from app.training.native.build import load_library
from tests.engine.tiny import write_gpt2, write_llama, write_qwen2


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Answering sets torch's threads to the cores that are idle. Left so, the next test would train in lanes."""
    torch.set_num_threads(1)


@pytest.fixture(params=["vectors", "tiles"])
def compiled_products(request: pytest.FixtureRequest) -> Iterator[None]:
    """Products of bfloat16 in compiled code, by each of the two ways that the processor has."""
    library = load_library()
    if library is None or not library.has_products():
        pytest.skip("this processor has no vectors of 512 bits, or there is no C compiler")
    wanted = int(request.param == "tiles")
    if library.use_tiles(wanted) != wanted:
        pytest.skip("this processor has no tiles (AMX)")
    yield
    library.use_tiles(1)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gpt2(tmp_path_factory.mktemp("models") / "tiny-gpt2")


@pytest.fixture(scope="session")
def qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_qwen2(tmp_path_factory.mktemp("models") / "tiny-qwen2")
