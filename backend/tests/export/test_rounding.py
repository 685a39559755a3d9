"""Merged weights rounded with regard to what enters their layers."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from app.export import certify, packing
from app.export.packing import make_export
from app.export.places import place_once
from app.export.rounding import Rounder, collect_moments, needed_bytes
from app.storage.export_dir import ExportDir
from app.training.lora import load_adapter
from tests.export.conftest import trained_job
from tests.export.shapes import write_model


def inputs(tokens: int, size: int) -> torch.Tensor:
    """Return inputs as layers have them: few directions, some much larger than others."""
    torch.manual_seed(0)
    return torch.randn(tokens, size // 4) @ torch.randn(size // 4, size) + 0.1 * torch.randn(tokens, size)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_outputs_move_less_than_by_the_nearest_numbers_also_for_inputs_not_seen(dtype: torch.dtype) -> None:
    every = inputs(1200, 192)
    seen, unseen = every[:1000], every[1000:]
    weight = torch.randn(64, 192) / 14
    rounded = Rounder({"layer": seen.t() @ seen}).round("layer", weight, dtype)
    assert rounded.dtype == dtype and rounded.shape == weight.shape and rounded.is_contiguous()

    def moved(candidate: torch.Tensor, x: torch.Tensor) -> float:
        return float((x @ (candidate.float() - weight).t()).square().mean())

    nearest = weight.to(dtype)
    assert moved(rounded, seen) < moved(nearest, seen) / 3
    assert moved(rounded, unseen) < moved(nearest, unseen) / 2
    assert float((rounded.float() - weight).abs().max()) < 8 * float((nearest.float() - weight).abs().max())


def test_inputs_that_are_all_alike_leave_the_nearest_numbers() -> None:
    weight = torch.randn(8, 300)
    assert torch.equal(Rounder({"layer": torch.eye(300)}).round("layer", weight, torch.bfloat16), weight.bfloat16())
    assert torch.equal(Rounder({"layer": torch.zeros(300, 300)}).round("layer", weight, torch.bfloat16), weight.bfloat16())
    assert torch.equal(Rounder({}).round("layer", weight, torch.bfloat16), weight.bfloat16())


@pytest.mark.parametrize("shape", ["llama", "gpt2"])
def test_the_moments_are_those_of_every_layer_with_an_adapter(tmp_path: Path, shape: str) -> None:
    job_dir = trained_job(tmp_path / "job", write_model(tmp_path / "model", shape), shape=shape)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    load_adapter(model, job_dir.adapter)
    rows = [[1, 5, 9, 4], [7, 3]]
    moments = collect_moments(model.eval(), rows)
    seen = {}
    for name, layer in model.named_modules():
        if name in moments:
            layer.register_forward_pre_hook(lambda _, given, name=name: seen.setdefault(name, []).append(given[0][0]))
    with torch.no_grad():
        for ids in rows:
            model(input_ids=torch.tensor([ids]), use_cache=False)
    assert seen.keys() == moments.keys() and needed_bytes(model) >= sum(
        4 * m.numel() for m in {id(m): m for m in moments.values()}.values()
    )
    for name, found in seen.items():
        x = torch.cat(found)
        assert torch.allclose(moments[name], x.t() @ x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", ["llama", "gpt2"])
def test_a_merge_that_the_nearest_numbers_move_too_much_is_calibrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    job_dir = trained_job(tmp_path / "jobs" / "job-1", write_model(tmp_path / "model", shape, torch.bfloat16), shape=shape)
    job = job_dir.read_job()
    divergences = []
    honest = certify.divergence

    def first_fails(*given: object) -> float:
        divergences.append(honest(*given))  # type: ignore[arg-type]
        return 1.0 if len(divergences) == 1 else divergences[-1]

    monkeypatch.setattr(certify, "divergence", first_fails)
    certificate = make_export(job_dir, job, "merged", job_dir.adapter)
    assert certificate.passed
    assert [notice.key for notice in certificate.notices] == ["export_note.calibrated"]
    nearest, _, calibrated, _ = divergences
    assert calibrated < nearest, "in fp32 arithmetic, on rows that the rounding has not seen"
    config = ExportDir(job_dir.path).folder("merged") / "config.json"
    assert '"bfloat16"' in config.read_text("utf-8")


def test_a_model_too_large_to_calibrate_is_written_in_32_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job_dir = trained_job(tmp_path / "jobs" / "job-1", write_model(tmp_path / "model", "llama", torch.bfloat16))
    monkeypatch.setitem(certify._TOP1, "bfloat16", 1.01)
    monkeypatch.setattr(packing, "MOST_BYTES", 0)
    certificate = make_export(job_dir, job_dir.read_job(), "merged", job_dir.adapter)
    assert [notice.key for notice in certificate.notices] == ["export_note.widened"]


def test_inputs_that_overflow_lead_to_32_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job_dir = trained_job(tmp_path / "jobs" / "job-1", write_model(tmp_path / "model", "llama", torch.bfloat16))
    monkeypatch.setitem(certify._TOP1, "bfloat16", 1.01)
    honest = packing.collect_moments
    monkeypatch.setattr(packing, "collect_moments", lambda *given: {name: m * torch.inf for name, m in honest(*given).items()})
    certificate = make_export(job_dir, job_dir.read_job(), "merged", job_dir.adapter)
    assert certificate.passed
    assert [notice.key for notice in certificate.notices] == ["export_note.widened"]


def test_each_beginning_is_compared_once() -> None:
    placed = place_once([[1, 2, 3, 4], [1, 2, 3, 5, 6], [1, 2], [9, 2, 3]])
    assert [(row.ids, row.places) for row in placed] == [
        ([1, 2, 3, 4], [1, 2, 3]),
        ([1, 2, 3, 5, 6], [4]),
        ([9, 2, 3], [1, 2]),
    ]
