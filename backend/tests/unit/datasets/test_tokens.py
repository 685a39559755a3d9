"""Token counts and views, computed in a limited child process."""

import json
import os
import subprocess
import sys
from array import array
from itertools import islice
from pathlib import Path

import pytest

from app.contracts.dataset import Example, Message
from app.core.errors import DatasetInvalid, ModelUnavailable
from app.datasets import tokens
from app.datasets.counting import count_numbers
from app.datasets.importing import import_file
from app.datasets.parallel_counting import FEWEST_ROWS
from app.datasets.render import Renderer
from app.datasets.tokens import TokenCount, show_tokens, token_counts, token_lengths
from app.storage.dataset_dir import DatasetDir
from tests.unit.datasets import models

ROWS = [{"question": f"Question {n}, " * (n % 5 + 1), "answer": f"Réponse {n}."} for n in range(60)]
CONTENT = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"


@pytest.fixture
def dataset(tmp_path: Path) -> DatasetDir:
    source = tmp_path / "rows.json"
    source.write_text(json.dumps(ROWS), "utf-8")
    target = DatasetDir(tmp_path / "datasets" / "ds-1")
    import_file(source, filename="rows.json", name=None, target=target)
    return target


def test_lengths_are_those_that_the_renderer_gives(dataset: DatasetDir, tmp_path: Path) -> None:
    model = models.chatml_model(tmp_path / "model")
    renderer = Renderer.load(model)
    for file in (dataset.rows_file, dataset.train_file):
        expected = [renderer.encode(example, 1 << 20).full_length for example in dataset.read_examples(file)]
        assert token_lengths(file, model) == expected


def test_trained_tokens_are_counted_and_rows_can_be_skipped(dataset: DatasetDir, tmp_path: Path) -> None:
    model = models.chatml_model(tmp_path / "model")
    renderer = Renderer.load(model)
    encoded = [renderer.encode(example, 1 << 20) for example in dataset.read_examples()]
    common = [next(n for n in range(len(row.ids), -1, -1) if row.ids[:n] == encoded[0].ids[:n]) for row in encoded]
    assert min(common) > 0
    expected = [
        TokenCount(
            row=number,
            length=row.full_length,
            trained=sum(row.trained),
            shared=shared,
            starts=1,
            marked=False,
            answers=1,
            ends=(row.full_length - 1,),  # a line break follows
        )
        for number, (row, shared) in enumerate(zip(encoded, common, strict=True), 1)
    ]
    assert token_counts(dataset.rows_file, model) == expected
    assert token_counts(dataset.rows_file, model, every=7) == expected[::7]


def test_rows_counted_in_several_processes_are_those_counted_in_one(tmp_path: Path) -> None:
    rows = [{"question": f"Question {n}, " * (n % 7 + 1), "answer": f"Réponse {n}."} for n in range(FEWEST_ROWS + 77)]
    source = tmp_path / "rows.json"
    source.write_text(json.dumps(rows), "utf-8")
    dataset = DatasetDir(tmp_path / "datasets" / "ds-1")
    import_file(source, filename="rows.json", name=None, target=dataset)
    model = models.chatml_model(tmp_path / "model")
    expected = count_numbers(Renderer.load(model), dataset.read_examples())
    # Forking is for a process without threads, which pytest is not.
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from app.datasets import parallel_counting\n"
        "from app.datasets.render import Renderer\n"
        "os.sched_getaffinity = lambda process: {0, 1, 2}\n"
        "forked = []\n"
        "fork = os.fork\n"
        "os.fork = lambda: forked.append(1) or fork()\n"
        "renderer = Renderer.load(Path(sys.argv[2]))\n"
        "numbers = parallel_counting.count_file(renderer, Path(sys.argv[1]), int(sys.argv[3]))\n"
        "sys.stdout.buffer.write(bytes([len(forked)]) + numbers.tobytes())\n"
    )
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}
    for every, processes in ((1, 3), (2, 0)):
        command = [sys.executable, "-c", program, str(dataset.rows_file), str(model), str(every)]
        answer = subprocess.run(command, capture_output=True, timeout=120, env=environment, check=True).stdout
        found = array("I", answer[1:])
        assert answer[0] == processes
        if every == 1:
            assert found == expected
        else:
            assert found == count_numbers(Renderer.load(model), islice(dataset.read_examples(), 0, None, every))


def test_lengths_are_counted_once_per_content_and_tokenizer(
    dataset: DatasetDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models.chatml_model(tmp_path / "model")
    first = token_lengths(dataset.rows_file, model)
    with monkeypatch.context() as patch:
        patch.setattr(tokens, "_run_child", lambda *arguments: pytest.fail("counted again"))
        assert token_lengths(dataset.rows_file, model) == first
    (model / "chat_template.jinja").write_text(CONTENT, "utf-8")
    assert token_lengths(dataset.rows_file, model) != first


def test_a_row_that_the_template_refuses_counts_as_zero(dataset: DatasetDir, tmp_path: Path) -> None:
    template = CONTENT + "{% if '7' in messages[0].content %}{{ raise_exception('no sevens') }}{% endif %}"
    lengths = token_lengths(dataset.rows_file, models.chatml_model(tmp_path / "model", template))
    assert [length == 0 for length in lengths] == ["7" in row["question"] for row in ROWS]


@pytest.mark.parametrize(
    ("body", "seconds", "reason"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", 2.0, "more than 2 s"),
        ("{{ ('x' * 9999999999)|length }}", 60.0, "out of memory"),
    ],
)
def test_a_template_that_eats_time_or_memory_ends_in_a_sentence(
    dataset: DatasetDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, seconds: float, reason: str
) -> None:
    monkeypatch.setattr(tokens, "CHILD_SECONDS", seconds)
    with pytest.raises(ModelUnavailable, match=reason) as caught:
        token_lengths(dataset.rows_file, models.chatml_model(tmp_path / "model", CONTENT + body))
    assert caught.value.key == "model_unavailable.template_broken"
    assert not (dataset.tokens_folder).exists()


def test_a_missing_tokenizer_is_named(dataset: DatasetDir, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        token_lengths(dataset.rows_file, tmp_path)
    assert caught.value.key == "model_unavailable.tokenizer_missing"


def test_a_row_is_shown_token_by_token_with_the_cut(tmp_path: Path) -> None:
    model = models.chatml_model(tmp_path)
    messages = [Message(role="user", content="Le code ?"), Message(role="assistant", content="4471")]
    shown = show_tokens(Example(row=1, messages=messages), model, 1000)
    assert shown.template_name == "chat" and shown.full_length == len(shown.tokens)
    text = "<|im_start|>user\nLe code ?<|im_end|>\n<|im_start|>assistant\n4471<|im_end|>\n"
    assert "".join(token.text for token in shown.tokens).endswith(text)
    assert "".join(token.text for token in shown.tokens if token.trained) == "4471<|im_end|>"
    assert {token.text for token in shown.tokens if token.special} == {"<|im_start|>", "<|im_end|>"}
    cut = show_tokens(Example(row=1, messages=messages), model, 5)
    assert cut.tokens == shown.tokens[:5] and cut.full_length == shown.full_length


def test_a_row_that_cannot_be_shown_is_named(tmp_path: Path) -> None:
    model = models.llama2_model(tmp_path, legacy=True, template=models.MISTRAL_TEMPLATE)
    example = Example(row=4, messages=[Message(role="assistant", content="Hello")])
    with pytest.raises(DatasetInvalid, match="row 4: roles must alternate"):
        show_tokens(example, model, 100)
