"""Micro-batches of rows, and the order of an epoch."""

from pathlib import Path

import torch

from app.datasets.render import Renderer
from app.training.batching import collate, epoch_order, split, steps_per_epoch
from tests.engine.tiny import encode, examples, make_job

CPU = torch.device("cpu")


def test_only_the_answer_is_trained(llama: Path, tmp_path: Path) -> None:
    rows = examples(1)
    job_dir = make_job(tmp_path / "job", llama, train=rows, heldout=[])
    renderer = Renderer.load(llama)
    (row,) = encode(job_dir).rows
    trained = renderer.decode([row.ids[i] for i in row.targets], skip_special=False)
    answer = rows[0].messages[-1].content
    assert trained.startswith(f"{answer}<|im_end|>")
    batch = collate([row], renderer.pad_id, CPU, 512)
    assert batch.ids.view(-1)[batch.positions + 1].tolist() == batch.targets.tolist() == [row.ids[i] for i in row.targets]


def test_order_depends_on_seed_and_epoch_only() -> None:
    assert epoch_order(20, 1, 0) == epoch_order(20, 1, 0)
    assert epoch_order(20, 1, 0) != epoch_order(20, 1, 1)
    assert epoch_order(20, 1, 0) != epoch_order(20, 2, 0)
    assert sorted(epoch_order(20, 1, 0)) == list(range(20))
    assert (steps_per_epoch(16, 8), steps_per_epoch(17, 8)) == (2, 3)


def test_micro_batches_keep_every_row_and_respect_the_limits(llama: Path, tmp_path: Path) -> None:
    job_dir = make_job(tmp_path / "job", llama, train=examples(20), heldout=[])
    rows = encode(job_dir).rows
    parts = split(rows, 3, 250)
    assert sorted(len(row.ids) for part in parts for row in part) == sorted(len(row.ids) for row in rows)
    assert all(len(part) <= 3 for part in parts)
    assert all(len(part) == 1 or len(part) * max(len(r.ids) for r in part) <= 250 for part in parts)
    assert [len(part) for part in split(rows, 8, 1)] == [1] * 20


def test_padding_rounds_up_but_never_beyond_the_longest_row_that_the_model_takes(llama: Path, tmp_path: Path) -> None:
    job_dir = make_job(tmp_path / "job", llama, train=examples(1), heldout=[])
    renderer = Renderer.load(llama)
    (row,) = encode(job_dir).rows
    longest = len(row.ids)
    assert collate([row], renderer.pad_id, CPU, 512).ids.shape == (1, -(-longest // 16) * 16)
    assert collate([row], renderer.pad_id, CPU, longest).ids.shape == (1, longest)
