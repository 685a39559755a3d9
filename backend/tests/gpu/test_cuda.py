"""The engine on an NVIDIA card; skipped where there is none. `make test-gpu` on a machine with one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from app.contracts.events import Noted, StepLogged
from app.storage.job_dir import JobDir
from app.training.batching import Row, collate
from app.training.card_attention import card_attention
from app.training.engine import train
from app.training.graphs import MET_BEFORE, Graphs
from app.training.stopping import StopWatch
from tests.engine.test_engine import assert_close
from tests.engine.tiny import examples, make_job, write_gpt2, write_llama

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA card that this build of torch can use"),
]


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    write = {"llama": write_llama, "gpt2": write_gpt2}[request.param]
    return write(tmp_path_factory.mktemp("models") / request.param)


def run(folder: Path, model: Path, **options: object) -> JobDir:
    targets = ["c_attn", "c_proj", "c_fc"] if model.name == "gpt2" else None
    settings = {"train": examples(24), "heldout": examples(4), "targets": targets, "device_id": "cuda:0", **options}
    job_dir = make_job(folder, model, **settings)  # type: ignore[arg-type]
    train(job_dir, StopWatch(job_dir))
    return job_dir


def losses(job_dir: JobDir) -> list[float]:
    return [event.loss for event in job_dir.read_events() if isinstance(event, StepLogged)]


def test_the_card_learns_what_the_processor_learns(model: Path, tmp_path: Path) -> None:
    """fp32 on both; sums are in another order."""
    card, processor = run(tmp_path / "card", model), run(tmp_path / "processor", model, device_id="cpu")
    assert losses(card) == pytest.approx(losses(processor), rel=1e-3)
    assert_close(card, processor, 2e-2)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_learns(model: Path, dtype: str, checkpointing: bool, tmp_path: Path) -> None:
    found = losses(run(tmp_path / "job", model, dtype=dtype, gradient_checkpointing=checkpointing))
    assert found[-1] < found[0]


def test_when_the_cards_memory_runs_out_the_micro_batch_is_halved_with_the_same_result(model: Path, tmp_path: Path) -> None:
    rows = [row.model_copy(update={"messages": None, "text": "abcdefgh" * 30 + str(row.row)}) for row in examples(64)]
    options = {"train": rows, "heldout": [], "micro_batch_size": 64, "gradient_accumulation_steps": 1, "num_epochs": 1}
    torch.cuda.reset_peak_memory_stats()
    roomy = run(tmp_path / "roomy", model, **options)
    needed, whole = torch.cuda.max_memory_reserved(), torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.6 * needed / whole)
    try:
        small = run(tmp_path / "small", model, **options)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert [event for event in small.read_events() if isinstance(event, Noted) and event.key == "micro_batch_halved"]
    assert_close(small, roomy, 2e-2)


def test_four_bits_learn(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    model = write_llama(tmp_path / "model", hidden_size=128, intermediate_size=256)
    found = losses(run(tmp_path / "job", model, dtype="bfloat16", quantization="nf4"))
    assert found[-1] < found[0]


@pytest.mark.parametrize("shared", [0, 5])
def test_attention_over_ragged_rows_equals_that_over_padded_ones(shared: int) -> None:
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("FlashAttention needs compute capability 8")
    card, lengths = torch.device("cuda:0"), [40, 33, 17]
    rows = [Row([*range(shared), *(100 * place + id_ for id_ in range(shared, length))], [length - 1])
            for place, length in enumerate(lengths)]  # fmt: skip
    layout = collate(rows, 0, card, 64, packed=True).layout
    assert layout is not None and layout.ragged is not None
    tokens = layout.used + 3
    torch.manual_seed(0)
    parts = [torch.randn(1, heads, tokens, 64, device=card, dtype=torch.bfloat16, requires_grad=True) for heads in (6, 2, 2)]
    found = []
    for given in (layout, replace(layout, ragged=None)):
        out, _ = card_attention(torch.nn.Identity(), *parts, None, layout=given)
        found.append([out, *torch.autograd.grad(out[:, : layout.used].square().sum(), parts)])
    for ragged, padded in zip(*found, strict=True):
        assert (ragged - padded).norm() <= 2e-2 * padded.norm()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_recorded_micro_batches_learn_what_others_learn(
    model: Path, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses from recordings beside those of the same buckets without; a failed capture would say so in the events."""
    recorded: list[int] = []
    real = Graphs.add_gradient

    def note(self: Graphs, rows: list[Row], scale: float) -> torch.Tensor:
        loss = real(self, rows, scale)
        recorded.append(self.recorded)
        return loss

    monkeypatch.setattr(Graphs, "add_gradient", note)
    options = {"dtype": dtype, "heldout": [], "num_epochs": 4, "gradient_accumulation_steps": 1}
    graphs = run(tmp_path / "graphs", model, **options)
    assert recorded[-1] > 0
    assert not [event for event in graphs.read_events() if isinstance(event, Noted) and event.key == "graphs_closed"]
    monkeypatch.setattr("app.training.graphs.MOST_RECORDED", 0)
    plain = run(tmp_path / "plain", model, **options)
    assert losses(graphs) == pytest.approx(losses(plain), rel=1e-4)
    assert_close(graphs, plain, 1e-2)


def test_each_replay_draws_its_own_dropout(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the same in the next run from the same seed."""
    seen: list[float] = []
    real = Graphs.add_gradient

    def repeat(self: Graphs, rows: list[Row], scale: float) -> torch.Tensor:
        if not seen:
            torch.nn.init.normal_(self.parameters[1], std=0.1)  # B is zero at the start, and dropout without a trace
            seen.extend(real(self, rows, scale).item() for _ in range(MET_BEFORE + 4))
            assert self.recorded == 1
        return real(self, rows, scale)

    monkeypatch.setattr(Graphs, "add_gradient", repeat)
    options = {"dropout": 0.3, "dtype": "bfloat16", "num_epochs": 1, "heldout": []}
    run(tmp_path / "first", model, **options)
    first = list(seen)
    assert len(set(first)) == len(first)
    seen.clear()
    run(tmp_path / "second", model, **options)
    assert seen == first


def test_when_a_capture_fails_training_goes_on(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that is read stops a capture, as models that we do not know may do."""
    broken: list[bool] = []

    def reading(self: Graphs, slot: object) -> None:
        broken.append(torch.cuda.is_current_stream_capturing())
        compute(self, slot)
        self._loss.item()

    compute = Graphs._compute
    monkeypatch.setattr(Graphs, "_compute", reading)
    job = run(tmp_path / "job", model, dtype="bfloat16", num_epochs=4)
    assert True in broken
    closed = [event for event in job.read_events() if isinstance(event, Noted) and event.key == "graphs_closed"]
    assert len(closed) == 1
    found = losses(job)
    assert found[-1] < found[0]
