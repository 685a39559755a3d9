"""Exported weights beside the trained model: merged sums, and GGUF files of every shape as other engines read them."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from app.core.errors import Invalid, Unsupported
from app.datasets.tokenizer_files import load_tokenizer_files
from app.export import llama_cpp, loading_back
from app.export.gguf_file import write_gguf
from app.export.gguf_vocabulary import check_vocabulary
from app.export.merging import MergedWeights, write_merged
from app.export.places import PlacedRow
from app.export.scoring import divergence, score, top1_agreement
from tests.export.shapes import CONFIGS, VOCABULARY, write_adapter, write_model

needs_llama_cpp = pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="xllamacpp is not installed")


def rows(count: int = 60) -> list[PlacedRow]:
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(3, VOCABULARY, (count,), generator=generator).tolist()
    return [PlacedRow(ids, list(range(1, count)))]


@pytest.mark.parametrize("variant", [{}, {"use_dora": True}, {"use_rslora": True}], ids=["lora", "dora", "rslora"])
@pytest.mark.parametrize("shape", ["llama", "gpt2"])
def test_a_merged_model_computes_what_the_model_with_its_adapter_computes(
    tmp_path: Path, shape: str, variant: dict[str, bool]
) -> None:
    base = write_model(tmp_path / "base", shape)
    adapter = write_adapter(base, tmp_path / "adapter", shape, **variant)
    merged = tmp_path / "merged"
    merged.mkdir()
    write_merged(base, adapter, merged)
    shutil.copy(base / "config.json", merged)
    reference = score(loading_back.load_reference(base, adapter, torch.float32), rows())
    answers = score(loading_back.load_export("merged", merged, base, torch.float32), rows(), reference)
    assert top1_agreement(reference, answers) == 1.0
    assert divergence(reference, answers.kept) < 1e-6
    untouched = score(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), rows(), reference)
    assert divergence(reference, untouched.kept) > 0.01, "the adapter changes the answers"


def test_merged_weights_keep_the_precision_of_the_base(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", "llama", torch.bfloat16)
    adapter = write_adapter(base, tmp_path / "adapter", "llama")
    merged = tmp_path / "merged"
    merged.mkdir()
    write_merged(base, adapter, merged)
    before, after = load_file(base / "model.safetensors"), load_file(merged / "model.safetensors")
    changed = MergedWeights(base, adapter).changed
    assert {name: tensor.dtype for name, tensor in before.items()} == {name: tensor.dtype for name, tensor in after.items()}
    assert {name for name in before if not torch.equal(before[name], after[name])} == changed
    assert MergedWeights(base, adapter).stored_dtypes == {"bfloat16"}


def test_packed_weights_are_refused(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", "llama")
    adapter = write_adapter(base, tmp_path / "adapter", "llama")
    tensors = load_file(base / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    tensors[name] = tensors[name].to(torch.uint8)
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Unsupported, match="packed"):
        write_merged(base, adapter, tmp_path)


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", "llama")
    other = write_model(tmp_path / "other", "gpt2")
    with pytest.raises(Invalid):
        MergedWeights(base, write_adapter(other, tmp_path / "adapter", "gpt2"))


@needs_llama_cpp
@pytest.mark.parametrize("shape", list(CONFIGS))
def test_llama_cpp_and_transformers_read_from_a_gguf_file_what_was_trained(tmp_path: Path, shape: str) -> None:
    base = write_model(tmp_path / "base", shape)
    adapter = write_adapter(base, tmp_path / "adapter", shape)
    folder = tmp_path / "gguf"
    folder.mkdir()
    write_gguf(base, adapter, folder / "model.gguf", "f16", name=f"a {shape} named mistral")
    reference = score(loading_back.load_reference(base, adapter, torch.float32), rows())
    plain_id = load_tokenizer_files(base).tokenizer.token_to_id("a")
    answered = llama_cpp.ask(folder / "model.gguf", rows(), [], plain_id, 1)
    kept = np.full(reference.kept.shape, -np.inf, np.float32)
    for place, likeliest in enumerate(answered.places):
        logs = dict(likeliest)
        kept[place] = [logs.get(token, -np.inf) for token in reference.kept_ids[place].tolist()]
    # Sixteen bits of the wide model's random weights give 1.05e-4.
    assert divergence(reference, kept) < 2e-4
    if loading_back.reads_gguf(base):
        read = loading_back.load_export("gguf-f16", folder, base, torch.float32)
        assert divergence(reference, score(read, rows(), reference).kept) < 2e-4


@pytest.mark.parametrize(("precision", "most_bytes_per_weight"), [("f16", 2.1), ("q8_0", 1.2), ("q4_0", 0.9)])
def test_a_quantised_file_is_as_small_as_it_says(tmp_path: Path, precision: str, most_bytes_per_weight: float) -> None:
    base = write_model(tmp_path / "base", "llama")
    adapter = write_adapter(base, tmp_path / "adapter", "llama")
    file = tmp_path / "model.gguf"
    write_gguf(base, adapter, file, precision, name="small")  # type: ignore[arg-type]
    weights = sum(tensor.numel() for tensor in load_file(base / "model.safetensors").values())
    metadata = 40_000
    assert file.stat().st_size - metadata < most_bytes_per_weight * weights


def test_a_shape_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", "llama")
    adapter = write_adapter(base, tmp_path / "adapter", "llama")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "model_type": "olmo"}))
    assert AutoConfig.from_pretrained(base).model_type == "olmo"
    with pytest.raises(Unsupported, match="olmo"):
        write_gguf(base, adapter, tmp_path / "model.gguf", "f16", name="x")
    assert not (tmp_path / "model.gguf").exists()


def test_a_way_of_splitting_text_that_llama_cpp_lacks_is_refused(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", "llama")
    check_vocabulary(load_tokenizer_files(base))
    described = json.loads((base / "tokenizer.json").read_text())
    described["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    (base / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(Unsupported, match="splits text"):
        check_vocabulary(load_tokenizer_files(base))
