"""`affinage recommend`, `plan`, `models add`: what a person and a script read."""

import json
from pathlib import Path

from tests.cli.command import Affinage

EMBEDDED = "HuggingFaceTB/SmolLM2-135M-Instruct"
CONFIG = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 300, "max_position_embeddings": 256,
}  # fmt: skip


def write_model(affinage: Affinage) -> Path:
    folder = affinage.data_dir / "my-model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def test_recommend_ranks_for_a_card_with_the_models_of_the_specification(affinage: Affinage) -> None:
    outcome = affinage("recommend", "--vram", "6", "--objective", "quality", "--json")
    assert outcome.status == 0, outcome.stderr
    answer = outcome.document
    assert (answer["objective"], answer["memory_bytes"]) == ("quality", 6 * 2**30)
    assert [model["rank"] for model in answer["models"]] == list(range(1, len(answer["models"]) + 1))
    recommended = {model["id"] for model in answer["models"] if model["recommended"]}
    assert {"gpt2-medium", "gpt2-large"} <= recommended
    assert all(model["peak_bytes_upper"] <= 6 * 2**30 for model in answer["models"] if model["recommended"])


def test_recommend_takes_a_file_and_imports_it_once(affinage: Affinage, questions: Path) -> None:
    for _ in range(2):
        outcome = affinage("recommend", "--data", str(questions))
        assert outcome.status == 0, outcome.stderr
    assert "40 rows of training" in outcome.stdout and "balanced" in outcome.stdout
    assert len(affinage("data", "list", "--json").document["datasets"]) == 1


def test_recommend_speaks_french_and_shows_all_on_request(affinage: Affinage) -> None:
    short = affinage("recommend", "--vram", "4", LC_ALL="fr_FR.UTF-8")
    everything = affinage("recommend", "--vram", "4", "--all", LC_ALL="fr_FR.UTF-8")
    assert "carte graphique" in short.stdout and "--all les montre" in short.stdout
    assert "Qwen/Qwen3-8B" in everything.stdout and "Qwen/Qwen3-8B" not in short.stdout


def test_recommend_refuses_senseless_memory_and_unknown_data(affinage: Affinage) -> None:
    for wrong in ("0", "-2", "much"):
        assert affinage("recommend", "--vram", wrong).status == 2
    outcome = affinage("recommend", "--data", "ds-nothing", "--json")
    assert outcome.status == 1 and outcome.document["error"]["code"] == "not_found"


def test_plan_shows_memory_by_purpose_its_bound_the_time_and_other_plans(affinage: Affinage, questions: Path) -> None:
    outcome = affinage("plan", str(questions), "--model", "gpt2", "--max-length", "64")
    assert outcome.status == 0, outcome.stderr
    for words in ("weights", "activations", "at most", "by formula", "Or instead", "gradient_checkpointing", "you"):
        assert words in outcome.stdout
    assert "Traceback" not in outcome.stderr


def test_a_model_of_ones_own_is_added_planned_and_removed(affinage: Affinage, questions: Path) -> None:
    folder = str(write_model(affinage))
    added = affinage("models", "add", folder, "--json")
    assert added.status == 0, added.stderr
    assert (added.document["id"], added.document["added"]) == (folder, True)
    assert folder in affinage("models").stdout
    assert affinage("plan", str(questions), "--model", folder, "--json").document["model_id"] == folder
    assert any(model["id"] == folder for model in affinage("recommend", "--json").document["models"])
    assert affinage("models", "remove", folder).status == 0
    assert affinage("models", "remove", folder).status == 1
    assert folder not in affinage("models").stdout


def test_a_model_without_sizes_is_refused_with_the_field(affinage: Affinage) -> None:
    folder = write_model(affinage)
    (folder / "config.json").write_text(json.dumps({name: value for name, value in CONFIG.items() if name != "hidden_size"}))
    outcome = affinage("models", "add", str(folder))
    assert outcome.status == 1
    assert "hidden_size" in outcome.stderr and outcome.stdout == ""
