"""K-quants: what llama.cpp packs, the package gguf unpacks, and a whole file of them answers like the model."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize

from app.core.errors import Unsupported
from app.export import k_quants
from app.export.packing import make_export
from app.services.export_offers import find_problem
from app.storage.export_dir import ExportDir
from tests.export.conftest import trained_job
from tests.export.shapes import write_model

_K = GGMLQuantizationType
needs_llama_cpp = pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="xllamacpp is not installed")


@needs_llama_cpp
@pytest.mark.parametrize(("kind", "most"), [(_K.Q4_K, 0.1), (_K.Q5_K, 0.05), (_K.Q6_K, 0.025)])
def test_what_llama_cpp_packs_is_what_another_reader_unpacks(kind: GGMLQuantizationType, most: float) -> None:
    weights = np.random.default_rng(0).normal(size=(6, 512)).astype(np.float32)
    packed = k_quants.pack(weights, kind)
    error = np.linalg.norm(dequantize(packed, kind) - weights) / np.linalg.norm(weights)
    assert 0 < error < most


@needs_llama_cpp
def test_a_file_of_k_quants_passes_its_certificate(tmp_path: Path) -> None:
    job_dir = trained_job(tmp_path / "jobs" / "job-1", write_model(tmp_path / "model", "wide"))
    certificate = make_export(job_dir, job_dir.read_job(), "gguf-q4_k_m", job_dir.adapter)
    assert certificate.passed and [found.engine for found in certificate.agreements] == ["transformers", "llama.cpp"]
    (file,) = ExportDir(job_dir.path).folder("gguf-q4_k_m").glob("*.gguf")
    kinds = {tensor.name: tensor.tensor_type for tensor in GGUFReader(file).tensors}
    assert kinds["blk.0.attn_q.weight"] is _K.Q4_K and kinds["blk.1.ffn_down.weight"] is _K.Q6_K
    assert kinds["output.weight"] is _K.Q6_K and kinds["blk.0.attn_norm.weight"] is _K.F32


def test_layers_that_take_more_bits_are_those_of_llama_cpp() -> None:
    more = [
        layer for layer in range(32) if k_quants.choose_kind(f"blk.{layer}.ffn_down.weight", 32, _K.Q4_K, tied=False) is _K.Q6_K
    ]
    assert more == [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
    assert k_quants.choose_kind("blk.0.ffn_up.weight", 32, _K.Q4_K, tied=False) is _K.Q4_K
    assert k_quants.choose_kind("token_embd.weight", 32, _K.Q4_K, tied=True) is _K.Q6_K
    assert k_quants.choose_kind("token_embd.weight", 32, _K.Q4_K, tied=False) is _K.Q4_K


def test_rows_that_are_no_multiple_of_a_block_take_the_next_older_type() -> None:
    assert [k_quants.fit_kind(kind, 576) for kind in (_K.Q4_K, _K.Q5_K, _K.Q6_K)] == [_K.Q5_0, _K.Q5_1, _K.Q8_0]
    assert k_quants.fit_kind(_K.Q4_K, 1536) is _K.Q4_K


def test_without_llama_cpp_k_quants_are_said_to_be_unsupported_before_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.services.export_offers.importlib.util.find_spec", lambda _: None)
    problem = find_problem({"model_type": "llama"}, "gguf-q4_k_m")
    assert isinstance(problem, Unsupported) and problem.key == "unsupported.k_quants"
    assert find_problem({"model_type": "llama"}, "gguf-q8_0") is None
