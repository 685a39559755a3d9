"""One optimizer step against plain transformers with PEFT: the same losses, the same gradient of every adapter tensor."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, get_cosine_schedule_with_warmup
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from app.contracts.job import Lora
from app.datasets.render import Renderer
from app.storage.job_dir import JobDir
from app.training.assembly import assemble
from app.training.batching import Row, epoch_order
from app.training.engine import train
from app.training.gradient import Computer, Limits
from app.training.lanes import Lanes
from app.training.loading import load_model
from app.training.lora import adapter_tensors
from app.training.loss import LossHead
from app.training.stopping import StopWatch
from tests.engine.test_engine import adapter, steps_of
from tests.engine.tiny import GPT2_TARGETS, LLAMA_TARGETS, encode, examples, make_job

SHAPES = {"llama": LLAMA_TARGETS, "qwen2": LLAMA_TARGETS, "gpt2": GPT2_TARGETS}
CPU = torch.device("cpu")
ROWS = 12


@dataclass(frozen=True)
class Way:
    """One of the ways in which a step may be computed."""

    limits: Limits
    packed: bool = True
    checkpointing: bool = False
    chunk_rows: int | None = None
    """Labels whose logits exist at the same time; 0: all, by the model's own head."""


WAYS = {
    "one row at a time": Way(Limits(1, None)),
    "padded": Way(Limits(ROWS, None), packed=False),
    "packed": Way(Limits(ROWS, None)),
    "padded, accumulated": Way(Limits(4, 300), packed=False),
    "packed, accumulated": Way(Limits(4, 300)),
    "padded, checkpointed": Way(Limits(5, None), packed=False, checkpointing=True),
    "packed, checkpointed": Way(Limits(5, None), checkpointing=True),
    "side by side": Way(Limits(ROWS, None, lanes=2)),
    "side by side, padded, accumulated, checkpointed": Way(Limits(4, 600, lanes=3), packed=False, checkpointing=True),
    "loss in chunks": Way(Limits(ROWS, None), chunk_rows=16),
    "loss at once": Way(Limits(ROWS, None), chunk_rows=0),
}


def make_computer(job_dir: JobDir, way: Way, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> Computer:
    """Return a computer over a model whose adapter is not zero."""
    job = job_dir.read_job()
    model = load_model(job, CPU).to(dtype)
    built = assemble(model, job.lora, kind="cpu")
    if dtype == torch.float64:
        in_full(model, dtype)
    torch.manual_seed(1)
    for parameter in built.parameters:
        nn.init.normal_(parameter, std=0.05)
    assert built.head.packs and built.head.chunk_rows
    head = built.head
    if way.chunk_rows is not None:
        head = replace(head, chunk_rows=way.chunk_rows)
    if not way.packed:
        monkeypatch.setattr(LossHead, "packs", False)
    pad_id = Renderer.load(Path(job.model.path)).pad_id
    longest = job.optimization.max_length
    limits = replace(way.limits)
    lanes = Lanes(limits.lanes, torch.get_num_threads())
    return Computer(head, built.parameters, CPU, pad_id, longest, limits, job_dir, lambda: None, lanes=lanes)


def in_full(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return the model in `dtype` throughout: transformers' own norms round to fp32."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LlamaRMSNorm | Qwen2RMSNorm):
            plain = nn.RMSNorm(module.weight.shape, eps=module.variance_epsilon)
            plain.weight, plain.variance_epsilon = module.weight, module.variance_epsilon
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, plain)
    return model.to(dtype)


def in_peft(folder: Path, lora: Lora, name: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return plain transformers with PEFT, without dropout."""
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=lora.target_modules, fan_in_fan_out=name == "gpt2")
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    reference = get_peft_model(plain, config).eval()
    return in_full(reference, dtype) if dtype == torch.float64 else reference


def trained_parameters(reference: nn.Module) -> dict[str, nn.Parameter]:
    return {key.replace(".default", ""): value for key, value in reference.named_parameters() if value.requires_grad}


def copy_adapter(source: dict[str, nn.Parameter], target: dict[str, nn.Parameter]) -> None:
    assert source.keys() == target.keys()
    with torch.no_grad():
        for key, parameter in target.items():
            parameter.copy_(source[key])


def plain_loss(reference: nn.Module, rows: list[Row]) -> Tensor:
    """Return the summed loss of rows as one padded batch with its mask, by labels that are shifted."""
    length = max(len(row.ids) for row in rows)
    ids, mask = torch.zeros(len(rows), length, dtype=torch.long), torch.zeros(len(rows), length, dtype=torch.long)
    labels = torch.full((len(rows), length), -100)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)], mask[index, : len(row.ids)] = torch.tensor(row.ids), 1
        labels[index, row.targets] = ids[index, row.targets]
    logits = reference(input_ids=ids, attention_mask=mask).logits
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")


def distances(ours: dict[str, nn.Parameter], theirs: dict[str, nn.Parameter]) -> Iterator[tuple[str, float]]:
    """Yield how far each gradient is from the reference, as a share of that."""
    for key, parameter in ours.items():
        assert parameter.grad is not None and theirs[key].grad is not None
        yield key, float((parameter.grad - theirs[key].grad).norm() / theirs[key].grad.norm())


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(
    ("dtype", "loss_limit", "gradient_limit"),
    [(torch.float32, 1e-5, 2e-5), (torch.float64, 1e-9, 1e-9)],
    ids=["fp32", "fp64"],
)
def test_losses_and_gradients_equal_transformers_with_peft(
    name: str,
    way: Way,
    dtype: torch.dtype,
    loss_limit: float,
    gradient_limit: float,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder: Path = request.getfixturevalue(name)
    options = {"targets": SHAPES[name], "gradient_checkpointing": way.checkpointing}
    job_dir = make_job(tmp_path / "job", folder, train=examples(ROWS), heldout=[], **options)
    rows = list(encode(job_dir, 256).rows)
    compute = make_computer(job_dir, way, dtype, monkeypatch)
    loss = compute.accumulate_gradient(rows)

    reference = in_peft(folder, job_dir.read_job().lora, name, dtype)
    theirs = trained_parameters(reference)
    copy_adapter(adapter_tensors(compute.head.model), theirs)
    expected = plain_loss(reference, rows)
    expected.backward()
    assert abs(loss - expected.item()) / sum(len(row.targets) for row in rows) < loss_limit
    for key, distance in distances(adapter_tensors(compute.head.model), theirs):
        assert distance < gradient_limit, key


def gradient_of(compute: Computer, parts: list[list[Row]]) -> tuple[float, list[Tensor]]:
    """Return the summed loss and the gradients of parts that are accumulated one after the other."""
    for parameter in compute.parameters:
        parameter.grad = None
    loss = sum(compute.accumulate_gradient(part) for part in parts)
    return loss, [parameter.grad for parameter in compute.parameters if parameter.grad is not None]


def assert_same(ours: tuple[float, list[Tensor]], theirs: tuple[float, list[Tensor]], limit: float) -> None:
    assert abs(ours[0] - theirs[0]) <= limit * theirs[0]
    for mine, other in zip(ours[1], theirs[1], strict=True):
        assert (mine - other).norm() <= limit * other.norm()


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("name", SHAPES)
def test_any_split_of_a_step_gives_the_same_gradient(
    name: str, packed: bool, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows count by their learned tokens, so neither the limits nor what is accumulated with what matters."""
    folder: Path = request.getfixturevalue(name)
    job_dir = make_job(tmp_path / "job", folder, train=examples(ROWS), heldout=[], targets=SHAPES[name])
    rows = list(encode(job_dir, 256).rows)
    assert len({len(row.targets) for row in rows}) > 1
    compute = make_computer(job_dir, Way(Limits(ROWS, None), packed=packed), torch.float64, monkeypatch)
    whole = gradient_of(compute, [rows])
    for row_limit, token_limit in ((5, None), (ROWS, 200), (2, 150), (1, 1)):
        compute.limits.rows, compute.limits.tokens = row_limit, token_limit
        assert_same(gradient_of(compute, [rows]), whole, 1e-9)
    compute.limits.rows, compute.limits.tokens = ROWS, None
    for seed in range(4):
        order = epoch_order(ROWS, seed, 0)
        cuts = sorted({0, ROWS, *epoch_order(ROWS, seed, 1)[: seed + 1]})
        parts = [[rows[place] for place in order[start:stop]] for start, stop in pairwise(cuts)]
        assert_same(gradient_of(compute, parts), whole, 1e-9)


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_dropout_repeats_with_the_seed(
    name: str,
    checkpointing: bool,
    lanes: int,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bit for bit; recomputed activations are dropped as they were the first time."""
    folder: Path = request.getfixturevalue(name)
    options = {"targets": SHAPES[name], "dropout": 0.3}
    job_dir = make_job(
        tmp_path / "job", folder, train=examples(ROWS), heldout=[], gradient_checkpointing=checkpointing, **options
    )
    rows = list(encode(job_dir, 256).rows)
    results = []
    for seed in (5, 5, 6):
        compute = make_computer(job_dir, Way(Limits(4, None, lanes=lanes)), torch.float32, monkeypatch)
        torch.manual_seed(seed)
        results.append(gradient_of(compute, [rows]))
    assert_same(results[0], results[1], 0.0)
    assert results[2][0] != results[0][0]
    if checkpointing:
        kept = make_job(tmp_path / "kept", folder, train=examples(ROWS), heldout=[], **options)
        compute = make_computer(kept, Way(Limits(4, None, lanes=lanes)), torch.float32, monkeypatch)
        torch.manual_seed(6)
        assert_same(gradient_of(compute, [rows]), results[2], 1e-6)


def test_dropout_of_the_frozen_model_is_off_in_training(gpt2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GPT-2 comes with dropout 0.1: with it the same rows would give another loss each time."""
    job_dir = make_job(tmp_path / "job", gpt2, train=examples(4), heldout=[], targets=GPT2_TARGETS)
    rows = list(encode(job_dir, 256).rows)
    compute = make_computer(job_dir, Way(Limits(4, None)), torch.float32, monkeypatch)
    assert compute.head.model.training
    assert compute.accumulate_gradient(rows) == compute.accumulate_gradient(rows)


@pytest.mark.parametrize("name", SHAPES)
def test_a_whole_run_gives_the_losses_and_the_adapter_of_a_plain_loop(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Two epochs of ten steps, with the last step of an epoch smaller: order, mean, clip, AdamW and schedule."""
    folder: Path = request.getfixturevalue(name)
    job_dir = make_job(
        tmp_path / "job",
        folder,
        train=examples(77),
        heldout=[],
        targets=SHAPES[name],
        learning_rate=2e-3,
        weight_decay=0.05,
        max_grad_norm=0.5,
        warmup_ratio=0.0,
    )
    rows = list(encode(job_dir, 256).rows)
    train(job_dir, StopWatch(job_dir))

    job = job_dir.read_job()
    opt = job.optimization
    start = load_model(job, CPU)
    torch.manual_seed(opt.seed)
    assemble(start, job.lora, kind="cpu")
    reference = in_peft(folder, job.lora, name)
    theirs = trained_parameters(reference)
    copy_adapter(adapter_tensors(start), theirs)
    optimizer = torch.optim.AdamW(theirs.values(), lr=opt.learning_rate, weight_decay=opt.weight_decay)
    schedule = get_cosine_schedule_with_warmup(optimizer, 0, 20)
    losses = []
    for epoch in range(2):
        order = epoch_order(len(rows), opt.seed, epoch)
        for first in range(0, len(rows), 8):
            batch = [rows[place] for place in order[first : first + 8]]
            loss = plain_loss(reference, batch) / sum(len(row.targets) for row in batch)
            loss.backward()
            nn.utils.clip_grad_norm_(theirs.values(), opt.max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    assert [event.loss for event in steps_of(job_dir)] == pytest.approx(losses, abs=1e-5)
    for key, tensor in adapter(job_dir).items():
        assert (tensor - theirs[key]).norm() <= 1e-3 * theirs[key].norm(), key
