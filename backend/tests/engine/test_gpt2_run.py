"""A real run of GPT-2's full size, from the hub to an adapter that PEFT loads.

The weights are random (124 million of them, GPT-2's own shape), the tokenizer is the real one, the hub is a server on
loopback, everything else is what ships: finetune(), the supervisor, the trainer in its own process.
"""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from app.contracts.chat import Generation
from app.contracts.dataset import Message
from app.contracts.events import DownloadProgressed, PhaseStarted, StepLogged
from app.contracts.status import JobStatus
from app.core.errors import HubUnreachable
from app.core.settings import Settings
from app.datasets.render import Renderer
from app.services import dataset_service, inference_service, job_service
from app.services.finetuning_service import finetune
from app.services.studio import Studio, open_studio
from app.storage.dataset_dir import DatasetDir
from app.storage.repositories import Jobs
from tests.hub.server import HubServer

TOKENIZER = Path(__file__).resolve().parents[4] / "shared" / "data" / "gpt2_tokenizer"
needs_tokenizer = pytest.mark.skipif(
    not (TOKENIZER / "encoder.json").is_file(), reason=f"the GPT-2 tokenizer is not at {TOKENIZER}"
)
ROWS = 24


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    opened = open_studio(Settings(data_dir=tmp_path / "data"))
    yield opened
    opened.close()


def import_rows(studio: Studio, folder: Path) -> str:
    """Import small question/answer pairs and return the id of the data set."""
    animals = ["owl", "mongoose", "cat", "ox"]
    rows = [
        {"question": f"What does the {animals[i % 4]} of house {i} eat?", "answer": f"The {animals[i % 4]} eats blue cheese."}
        for i in range(ROWS)
    ]
    source = folder / "animals.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return dataset_service.import_upload(studio, source, filename="animals.jsonl", name="animals").dataset_id


def write_gpt2_repository(folder: Path) -> dict[str, bytes | Path]:
    """Write GPT-2's shape with random weights and return the files as its repository holds them, pickle included."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config())
    assert sum(parameter.numel() for parameter in model.parameters()) == 124_439_808
    model.to(torch.bfloat16).save_pretrained(folder)
    return {
        "config.json": folder / "config.json",
        "generation_config.json": folder / "generation_config.json",
        "model.safetensors": folder / "model.safetensors",
        "vocab.json": TOKENIZER / "encoder.json",
        "merges.txt": TOKENIZER / "vocab.bpe",
        "tokenizer_config.json": b'{"model_max_length": 1024}',
        "pytorch_model.bin": b"cos\nsystem\n(S'exit 1'\ntR.",
        "onnx/decoder_model.onnx": b"onnx",
    }


def answer_loss(model: torch.nn.Module, renderer: Renderer, dataset: DatasetDir) -> float:
    """Mean cross-entropy of the answers' tokens over the rows, in nats."""
    losses = []
    for example in dataset.read_examples(dataset.train_file):
        encoded = renderer.encode(example, 64)
        ids = torch.tensor([encoded.ids])
        labels = torch.where(torch.tensor([encoded.trained]), ids, -100)
        with torch.no_grad():
            losses.append(float(model(input_ids=ids, labels=labels).loss))
    return sum(losses) / len(losses)


@needs_tokenizer
@pytest.mark.slow
def test_gpt2_is_downloaded_fine_tuned_and_its_adapter_loads_in_peft(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset_id = import_rows(studio, tmp_path)
    with HubServer() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        repository = hub.add("openai-community/gpt2", write_gpt2_repository(tmp_path / "upstream"))
        hub.renamed["gpt2"] = "openai-community/gpt2"
        hub.bytes_per_second = 100e6

        with studio.supervising():
            row = finetune(
                studio,
                dataset_id,
                "gpt2",
                num_epochs=2,
                max_length=64,
                batch_size=4,
                gradient_accumulation_steps=1,
                learning_rate=2e-3,
            )
            assert not studio.models.find("gpt2"), "the job downloads, not the request"
            events = list(job_service.follow(studio, row.job_id))

    job_dir = studio.job_dir(row.job_id)
    with studio.database.reading() as session:
        assert job_service.get_job(session, row.job_id).status == JobStatus.SUCCEEDED, job_dir.log_file.read_text()
    job = job_dir.read_job()
    assert (job.model.model_id, job.model.commit) == ("gpt2", repository.commit)
    assert job.lora.fan_in_fan_out, "GPT-2 keeps its weights transposed (Conv1D)"

    downloads = [event for event in events if isinstance(event, DownloadProgressed)]
    assert len(downloads) >= 3, "a download of seconds must show progress"
    assert [event.done_bytes for event in downloads] == sorted(event.done_bytes for event in downloads)
    assert downloads[0].done_bytes < downloads[-1].done_bytes == downloads[-1].total_bytes > 240e6
    assert next(event.phase for event in events if isinstance(event, PhaseStarted)) == "downloading"
    assert not [request for request in hub.requests if request.path.endswith((".bin", ".onnx"))]

    steps = [event for event in events if isinstance(event, StepLogged)]
    assert [step.step for step in steps] == list(range(1, ROWS // 4 * 2 + 1))
    losses = [step.loss for step in steps]
    assert losses[0] == pytest.approx(10.8, abs=0.5), "ln(50257): random weights know nothing"
    assert losses[-1] < 0.8 * losses[0]

    report = job_dir.find_report()
    assert report is not None
    assert report.heldout_rows == 0, "too few rows for a split"
    found = studio.models.find("gpt2")
    assert found is not None
    renderer, dataset = Renderer.load(Path(found.path)), studio.dataset_dir(dataset_id)
    assert renderer.template_name == "plain"
    base = AutoModelForCausalLM.from_pretrained(found.path, dtype=torch.float32).eval()
    before = answer_loss(base, renderer, dataset)
    tuned = PeftModel.from_pretrained(base, job_dir.adapter).eval()
    after = answer_loss(tuned, renderer, dataset)
    assert after < 0.75 * before

    with studio.database.reading() as session:
        conversation = inference_service.prepare(
            studio,
            session,
            row.job_id,
            messages=[Message(role="user", content="What does the owl of house 4 eat?")],
            generation=Generation(max_new_tokens=12),
            compare=True,
        )
    deltas = list(inference_service.answer(studio, conversation))
    assert not [delta.error_key for delta in deltas if delta.error_key]
    answers = {name: "".join(delta.delta for delta in deltas if delta.target == name) for name in ("tuned", "base")}
    assert "eats blue cheese" in answers["tuned"]
    assert "cheese" not in answers["base"]
    print(answers)
    print(f"loss {losses[0]:.2f} -> {losses[-1]:.2f}; answers {before:.2f} -> {after:.2f}; {report.seconds:.1f} s of training")


def test_without_a_network_gpt2_is_refused_before_anything_starts(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset_id = import_rows(studio, tmp_path)
    with socket.socket() as taken:  # bound but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")

        with pytest.raises(HubUnreachable) as caught:
            finetune(studio, dataset_id, "gpt2")

    assert caught.value.status_code == 503
    assert "gpt2" in caught.value.message
    with studio.database.reading() as session:
        assert list(Jobs(session).page(10, None, None)) == []
    assert not any((studio.settings.data_dir / "jobs").iterdir())
