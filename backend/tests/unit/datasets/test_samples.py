"""The project's own sample, and the sample files of the field that lie on some machines."""

import csv
import json
from collections import Counter
from importlib.resources import as_file, files
from pathlib import Path

import pytest

from app.core.errors import DatasetInvalid, Unsupported
from app.datasets.importing import import_file, read_rows
from app.storage.dataset_dir import DatasetDir

SHARED = Path("/work/shared/data")
ASSETS = files("app.assets")


def sample_rows() -> list[dict[str, str]]:
    return list(csv.DictReader(ASSETS.joinpath("helpdesk.csv").read_text("utf-8").splitlines()))


def test_the_sample_imports_without_a_problem_and_with_a_split(tmp_path: Path) -> None:
    with as_file(ASSETS.joinpath("helpdesk.csv")) as path:
        info = import_file(path, filename="helpdesk.csv", name=None, target=DatasetDir(tmp_path / "ds"))
    assert (info.mapping.shape, info.rows, info.distinct_rows, info.problem_count) == ("question_answer", 200, 200, 0)
    assert (info.train_rows, info.heldout_rows) == (180, 20)


def test_every_fact_of_the_sample_is_asked_in_four_ways_and_answered_in_one_sentence() -> None:
    rows = sample_rows()
    answers = Counter(row["answer"] for row in rows)
    assert len(answers) == 50 and set(answers.values()) == {4}
    assert len({row["question"] for row in rows}) == 200
    assert all(10 <= len(answer.split()) <= 25 and answer.endswith(".") for answer in answers)
    assert any(letter in "".join(answers) for letter in "éèàùôç")


def test_every_fact_of_the_sample_is_still_trained_after_the_split(tmp_path: Path) -> None:
    with as_file(ASSETS.joinpath("helpdesk.csv")) as path:
        target = DatasetDir(tmp_path / "ds")
        import_file(path, filename="helpdesk.csv", name=None, target=target)
    trained = {example.messages[-1].content for example in target.read_examples(target.train_file) if example.messages}
    assert trained == {row["answer"] for row in sample_rows()}


def test_the_demo_asks_in_words_that_are_not_in_the_sample_for_facts_that_are() -> None:
    demo = json.loads(ASSETS.joinpath("demo_questions.json").read_text("utf-8"))
    rows = sample_rows()
    assert len(demo) == 3 and sum(entry["language"] == "en" for entry in demo) >= 2
    for entry in demo:
        assert entry["question"] not in {row["question"] for row in rows}
        assert entry["fact"] not in entry["question"]
        assert sum(entry["fact"] in row["answer"] for row in rows) >= 4


ACCEPTED = {
    "llamafactory/alpaca_en_demo.json": ("alpaca", 999),
    "llamafactory/identity.json": ("alpaca", 91),
    "llamafactory/glaive_toolcall_en_demo.json": ("sharegpt", 300),
    "llamafactory/c4_demo.jsonl": ("text", 300),
    "axolotl_fixtures/conversation.json": ("sharegpt", 1),
    "torchtune_assets/alpaca_tiny.json": ("alpaca", 100),
    "torchtune_assets/chat_tiny.json": ("sharegpt", 1),
    "torchtune_assets/instruct_tiny.json": ("alpaca", 2),
    "gsm8k/train.jsonl": ("question_answer", 7473),
    "mlx_examples/lora/data/train.jsonl": ("text", 1000),
    "mlx_examples/wwdc25/data/train.jsonl": ("prompt_completion", 1800),
    "llms_from_scratch/ch07/01_main-chapter-code/instruction-data.json": ("alpaca", 1100),
    "soup_samples/alpaca_tiny.jsonl": ("alpaca", 10),
    "soup_samples/reasoning_math.jsonl": ("alpaca", 5),
    "unsloth_samples/tests/kaggle/t4_smoke/canary_dataset.jsonl": ("question_answer", 6),
    "vigogne_fr/chat/dummy_chat.jsonl": ("messages", 20),
    "vigogne_fr/instruct/gt_doremiti_instructions.jsonl": ("alpaca", 28),
    "llamafactory/dpo_en_demo.json": ("preference", 300),
    "soup_samples/chat_preferences.jsonl": ("preference", 5),
    "soup_samples/dpo_sample.jsonl": ("preference", 8),
    "ms_swift_samples/alpaca.csv": ("alpaca", 3),
    "ms_swift_samples/alpaca.jsonl": ("alpaca", 3),
    "ms_swift_samples/alpaca2.csv": ("alpaca", 3),
    "ms_swift_samples/chatml.jsonl": ("messages", 3),
    "ms_swift_samples/conversations.jsonl": ("sharegpt", 3),
    "ms_swift_samples/sharegpt.jsonl": ("sharegpt", 3),
    "ms_swift_samples/swift_multi.json": ("prompt_completion", 3),
    "ms_swift_samples/swift_single.csv": ("prompt_completion", 3),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_sample_files_of_other_trainers_import_whole(tmp_path: Path, name: str) -> None:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{path} is not on this machine")
    target = DatasetDir(tmp_path / "ds")
    info = import_file(path, filename=path.name, name=None, target=target)
    assert (info.mapping.shape, info.rows) == ACCEPTED[name]
    assert info.rows == info.rows_in_file and info.problem_count == 0
    assert read_rows(target, 0, 1)[0].example == next(target.read_examples())


REFUSED = {
    "llamafactory/mllm_demo.json": "dataset_invalid.media_data",
    "llamafactory/v1_multimodal_demo.jsonl": "dataset_invalid.no_usable_rows",
    "llamafactory/wiki_demo.txt": "dataset_invalid.running_text",
    "tinyshakespeare/input.txt": "dataset_invalid.one_column",
    "stanford_alpaca_seed/seed_tasks.jsonl": "dataset_invalid.no_shape",
    "mt_bench/question.jsonl": "dataset_invalid.no_shape",
    "mrpc_csv/MRPC/train.csv": "dataset_invalid.no_shape",
    "csvkit_examples/iris.csv": "dataset_invalid.no_shape",
    "csvkit_examples/empty.csv": "dataset_invalid.empty_file",
    "csvkit_examples/test.xlsx": "unsupported.spreadsheet",
    "csvkit_examples/test.xls": "unsupported.spreadsheet",
    "csvkit_examples/dummy.csv.gz": "unsupported.compressed",
    "csv_detective_fr/data/file.parquet": "unsupported.columnar",
    "csv_detective_fr/data/file.ods": "unsupported.spreadsheet",
    "gpt2_tokenizer/encoder.json": "dataset_invalid.too_many_columns",
}


@pytest.mark.parametrize("name", REFUSED)
def test_files_that_are_no_training_data_are_refused_with_one_sentence(tmp_path: Path, name: str) -> None:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{path} is not on this machine")
    with pytest.raises((DatasetInvalid, Unsupported)) as caught:
        import_file(path, filename=path.name, name=None, target=DatasetDir(tmp_path / "ds"))
    assert caught.value.key == REFUSED[name]
    for language in ("en", "fr"):
        message, hint = caught.value.text(language)
        assert message and hint and "\n" not in message and len(message) < 500


def test_no_file_of_any_kind_ends_in_a_traceback(tmp_path: Path) -> None:
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not on this machine")
    paths = [path for path in sorted(SHARED.rglob("*")) if path.is_file() and path.stat().st_size < 1 << 18]
    refused = 0
    for number, path in enumerate(paths):
        try:
            import_file(path, filename=path.name, name=None, target=DatasetDir(tmp_path / f"ds-{number}"))
        except (DatasetInvalid, Unsupported):
            refused += 1
    assert len(paths) > 100 and refused > 50
