"""One optimizer step's gradient: the same as transformers with PEFT, however the step is split."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from app.datasets.render import Renderer
from app.storage.job_dir import JobDir
from app.training.assembly import assemble
from app.training.batching import collate, epoch_order, split, steps_per_epoch
from app.training.gradient import Computer, Limits
from app.training.loading import load_model
from app.training.lora import adapter_tensors
from app.training.rows import EncodedRows
from tests.engine.tiny import GPT2_TARGETS, LLAMA_TARGETS, encode, examples, make_job

TARGETS = {"llama": LLAMA_TARGETS, "qwen2": LLAMA_TARGETS, "gpt2": GPT2_TARGETS}
CPU = torch.device("cpu")


def prepare(job_dir: JobDir, limits: Limits) -> tuple[Computer, EncodedRows]:
    """Return a computer over a model whose adapter is not zero, and the rows of the job."""
    job = job_dir.read_job()
    renderer = Renderer.load(Path(job.model.path))
    rows = encode(job_dir, job.optimization.max_length)
    model = load_model(job, CPU)
    torch.manual_seed(1)
    built = assemble(model, job.lora, kind="cpu")
    for parameter in built.parameters:
        nn.init.normal_(parameter, std=0.05)
    most = job.optimization.max_length
    return Computer(built.head, built.parameters, CPU, renderer.pad_id, most, limits, job_dir, lambda: None), rows


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2"])
def test_loss_and_gradients_equal_transformers_with_peft(
    name: str, checkpointing: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(name)
    job_dir = make_job(
        tmp_path / "job",
        folder,
        train=examples(6),
        heldout=[],
        targets=TARGETS[name],
        gradient_checkpointing=checkpointing,
    )
    compute, encoded = prepare(job_dir, Limits(4, 300))
    ours = compute.accumulate_gradient(encoded.rows)

    lora = job_dir.read_job().lora
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=TARGETS[name], fan_in_fan_out=name == "gpt2")
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    reference = get_peft_model(plain, config).eval()
    theirs = {key.replace(".default", ""): p for key, p in reference.named_parameters() if p.requires_grad}
    mine = adapter_tensors(compute.head.model)
    assert theirs.keys() == mine.keys()
    with torch.no_grad():
        for key, parameter in theirs.items():
            parameter.copy_(mine[key])
    expected = 0.0
    for row in encoded.rows:  # one row at a time, the whole logits, labels by hand
        ids = torch.tensor([row.ids])
        logits = reference(input_ids=ids).logits[0]
        labels = torch.full((len(row.ids),), -100)
        labels[torch.tensor(row.targets) - 1] = ids[0, row.targets]
        loss = F.cross_entropy(logits, labels, reduction="sum")
        loss.backward()
        expected += loss.item()
    assert abs(ours - expected) / encoded.counts.trained_tokens < 1e-5
    for key, parameter in mine.items():
        difference = (parameter.grad - theirs[key].grad).norm() / theirs[key].grad.norm()
        assert difference < 2e-5, f"{key}: {difference}"


def test_any_split_of_a_step_gives_the_same_gradient(llama: Path, tmp_path: Path) -> None:
    job_dir = make_job(tmp_path / "job", llama, train=examples(12), heldout=[])
    compute, encoded = prepare(job_dir, Limits(12, None))
    results = []
    for limits in (Limits(12, None), Limits(5, None), Limits(12, 200), Limits(1, None)):
        compute.limits.rows, compute.limits.tokens = limits.rows, limits.tokens
        loss = compute.accumulate_gradient(encoded.rows)
        results.append((loss, [p.grad.clone() for p in compute.parameters]))
        for parameter in compute.parameters:
            parameter.grad = None
    (loss, whole), *others = results
    for other_loss, grads in others:
        assert abs(other_loss - loss) / loss < 1e-6
        for a, b in zip(whole, grads, strict=True):
            assert (a - b).norm() / a.norm() < 1e-5


def test_dropout_of_the_frozen_model_is_off_in_training(gpt2: Path, tmp_path: Path) -> None:
    """GPT-2 comes with dropout 0.1: with it the same rows would give another loss each time."""
    job_dir = make_job(tmp_path / "job", gpt2, train=examples(4), heldout=[], targets=GPT2_TARGETS)
    compute, encoded = prepare(job_dir, Limits(4, None))
    assert compute.head.model.training
    assert compute.accumulate_gradient(encoded.rows) == compute.accumulate_gradient(encoded.rows)


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
