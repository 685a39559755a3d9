"""The command line as a person or a script meets it."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from app.contracts.events import Phase
from app.contracts.options import OPTION_NAMES
from app.core.messages import LANGUAGES, localise
from app.storage.migrate import upgrade
from tests.cli.command import Affinage

EMBEDDED = "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_help_imports_neither_torch_nor_the_server() -> None:
    heavy = "sys.exit(any(name in sys.modules for name in ('torch', 'fastapi', 'sqlalchemy')))"
    program = f"import sys; from app.cli.application import run; run(['--help']); {heavy}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(
        command in done.stdout
        for command in (
            "serve",
            "models",
            "recommend",
            "finetune",
            "jobs",
            "chat",
            "data",
            "plan",
            "calibrate",
            "doctor",
            "settings",
        )
    )


def test_every_phase_of_a_job_has_a_sentence() -> None:
    for language in LANGUAGES:
        assert all(localise(f"cli.phase_{phase}", language)[0] for phase in get_args(Phase))


def test_finetune_offers_every_hyper_parameter_of_the_contract(affinage: Affinage) -> None:
    shown = affinage("finetune", "--help", COLUMNS="200").stdout
    assert [name for name in OPTION_NAMES if f"--{name.replace('_', '-')}" not in shown] == []
    assert "automatic = 5" in shown


def test_rows_are_printed_as_read_whatever_letters_the_console_knows(affinage: Affinage, tmp_path: Path) -> None:
    file = tmp_path / "faq.csv"
    file.write_text("question;réponse\nOù ?;« Là » \U0001f600\n", "utf-8")
    program = [sys.executable, "-m", "app.cli", "data", "read", str(file)]
    environment = affinage.environment | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(program, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout.decode()) == (0, '{"question": "Où ?", "réponse": "« Là » \U0001f600"}\n'), done.stderr


def test_models_lists_the_four_of_the_specification_first(affinage: Affinage) -> None:
    outcome = affinage("models", "--json")
    assert outcome.status == 0, outcome.stderr
    models = outcome.document["models"]
    assert [model["id"] for model in models[:4]] == ["distilgpt2", "gpt2", "gpt2-medium", "gpt2-large"]
    assert models[1]["name"] == "GPT-2 (124M)"
    assert [model["id"] for model in models if model["preselected"]] == [EMBEDDED]
    assert next(model for model in models if model["id"] == "gpt2")["weights"] == "unreachable"


def test_models_without_json_names_ids_and_the_preselected_one(affinage: Affinage) -> None:
    outcome = affinage("models")
    assert "gpt2-medium" in outcome.stdout and "▸ " + EMBEDDED in outcome.stdout


def test_data_is_imported_listed_and_shown(affinage: Affinage, questions: Path) -> None:
    imported = affinage("data", "import", str(questions), "--name", "Sums", "--json").document
    assert (imported["name"], imported["rows"], imported["splits"]) == ("Sums", 60, {"train": 40, "heldout": 20})
    listed = affinage("data", "list", "--json").document["datasets"]
    assert [entry["dataset_id"] for entry in listed] == [imported["dataset_id"]]
    shown = affinage("data", "show", imported["dataset_id"], "--rows", "2")
    assert "0 + 1?" in shown.stdout and "2." in shown.stdout and "2 + 1?" not in shown.stdout


def test_problems_are_told_with_row_and_column_by_check_and_import(affinage: Affinage, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("question,[answer]\nWho?,\nWhere?,Here.\n")
    for command in (["check"], ["import"]):
        shown = affinage("data", *command, str(file)).stdout
        assert "! row 1, column “[answer]”: The answer is empty. Write it, or remove the row." in shown
        french = affinage("data", *command, str(file), LC_ALL="fr_FR.UTF-8").stdout
        assert "! ligne 1, colonne « [answer] » : La réponse est vide." in french


def test_an_import_says_what_was_settled_and_what_is_only_proposed(affinage: Affinage, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("Katalog 2026\nBetreff,Sendung\nWo ist mein Paket?,Es ist unterwegs.\nWann kommt es?,Es kommt morgen.\n")
    for command in ("check", "import"):
        shown = affinage("data", command, str(file)).stdout
        assert "Lines above the header, passed over: 1." in shown
        assert "? Not certain which column plays which part." in shown
        assert "--shape question_answer --map instruction=Betreff --map output=Sendung" in shown


def test_findings_are_shown_mended_and_exported(affinage: Affinage, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("question,answer\nWho?,anna@example.org\nWho?,anna@example.org\nWhere?,Here.\n")
    dataset_id = affinage("data", "import", str(file), "--json").document["dataset_id"]
    found = affinage("data", "findings", dataset_id, "--json").document
    assert [finding["code"] for finding in found["findings"]] == ["exact_duplicates", "emails"]
    assert f"affinage data fix {dataset_id} exact_duplicates emails" in affinage("data", "findings", dataset_id).stdout
    fixed = affinage("data", "fix", dataset_id, "exact_duplicates", "emails", "--json").document
    assert (fixed["version"], fixed["rows"]) == (2, 2)
    lines = affinage("data", "export", fixed["dataset_id"], "--shape", "sharegpt").stdout.splitlines()
    assert lines[0] == '{"conversations":[{"from":"human","value":"Who?"},{"from":"gpt","value":"[email]"}]}'


@pytest.mark.parametrize("command", ["check", "read", "import"])
def test_a_pipe_is_read_to_its_end(affinage: Affinage, tmp_path: Path, command: str) -> None:
    pipe = tmp_path / "rows.csv"
    os.mkfifo(pipe)
    program = "import sys; open(sys.argv[1], 'w').write('question,answer\\n' + 'Where is it?,Here it is.\\n' * 40000)"
    writer = subprocess.Popen([sys.executable, "-c", program, str(pipe)])
    try:
        outcome = affinage("data", command, str(pipe), seconds=30)
    finally:
        writer.kill()
        writer.wait()
    assert outcome.status == 0, outcome.stderr
    assert len(outcome.stdout.splitlines()) == 40_000 if command == "read" else "ows: 40000" in outcome.stdout


def test_one_row_is_told_in_a_sentence_that_holds_for_one(affinage: Affinage, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("question,answer\nWhere?,Here.\n")
    for language in ("C.UTF-8", "fr_FR.UTF-8"):
        for command in ("check", "import"):
            shown = affinage("data", command, str(file), LC_ALL=language).stdout
            assert "ows: 1 (" in shown or " : 1 (" in shown
            assert " 1 rows" not in shown and " 1 different" not in shown and " 1 lignes" not in shown
    file.write_text("question,answer\nWhere?,\n")
    refused = affinage("data", "check", str(file)).stderr
    assert "rows read: 1" in refused and " 1 rows" not in refused


def test_a_file_that_is_no_data_fails_with_a_sentence_and_a_hint(affinage: Affinage, tmp_path: Path) -> None:
    picture = tmp_path / "picture.csv"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)))
    outcome = affinage("data", "import", str(picture))
    assert outcome.status == 1
    assert outcome.stderr.startswith("error: ") and len(outcome.stderr.splitlines()) >= 2
    assert outcome.stdout == ""


def test_plan_resolves_every_value_and_starts_nothing(affinage: Affinage, questions: Path) -> None:
    outcome = affinage("plan", str(questions), "--model", "gpt2", "--batch-size", "4", "--json")
    assert outcome.status == 0, outcome.stderr
    plan = outcome.document
    assert set(plan["resolved"]) == set(OPTION_NAMES)
    assert plan["resolved"]["num_epochs"]["value"] == 5
    assert plan["resolved"]["learning_rate"] == {
        "value": 0.0003,
        "origin": "model",
        "reason": None,
        "automatic": 0.0003,
    }
    batch = plan["resolved"]["batch_size"]["value"] * plan["resolved"]["gradient_accumulation_steps"]["value"]
    assert batch == plan["effective_batch_size"] == 8
    assert affinage("jobs", "--json").document == {"jobs": []}


def test_planning_a_file_twice_leaves_one_data_set(affinage: Affinage, questions: Path) -> None:
    for _ in range(2):
        assert affinage("plan", str(questions), "--model", "gpt2").status == 0
    assert len(affinage("data", "list", "--json").document["datasets"]) == 1


def test_an_unknown_data_set_is_an_error_for_people_on_stderr(affinage: Affinage) -> None:
    outcome = affinage("plan", "ds-unknown", "--model", "gpt2")
    assert outcome.status == 1
    assert outcome.stdout == ""
    assert "error: There is no data set “ds-unknown”." in outcome.stderr and "affinage data list" in outcome.stderr


def test_an_unknown_data_set_is_the_house_error_body_with_json(affinage: Affinage) -> None:
    outcome = affinage("plan", "ds-unknown", "--model", "gpt2", "--json")
    assert outcome.status == 1
    error = outcome.document["error"]
    assert error["code"] == "not_found" and error["hint"]
    assert outcome.stderr == ""


def test_messages_follow_the_locale(affinage: Affinage) -> None:
    outcome = affinage("jobs", "show", "job-unknown", LC_ALL="fr_FR.UTF-8")
    assert outcome.status == 1
    assert outcome.stderr.startswith("erreur")
    assert "affinage jobs" in outcome.stderr


def test_a_model_that_cannot_be_had_says_so_before_anything_starts(affinage: Affinage, questions: Path) -> None:
    outcome = affinage("finetune", str(questions), "--model", "gpt2", "--json")
    assert outcome.status == 1
    assert outcome.document["error"]["code"] == "hub_unreachable"
    assert affinage("jobs", "--json").document == {"jobs": []}


@pytest.mark.parametrize(
    "arguments",
    [["finetune"], ["nonsense"], ["plan", "x", "--no-such-option"], ["plan", "x", "--batch-size", "many"], ["chat"]],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(affinage: Affinage, arguments: list[str]) -> None:
    for as_json in ([], ["--json"]):
        outcome = affinage(*arguments, *as_json)
        assert outcome.status == 2
        assert (outcome.document["error"]["code"] == "usage") if as_json else outcome.stderr.startswith("error: ")


def test_a_refused_number_names_its_option_and_leaves_no_data_set_behind(affinage: Affinage, questions: Path) -> None:
    outcome = affinage("finetune", str(questions), "--model", EMBEDDED, "--num-epochs", "0", "--json")
    assert outcome.status == 2
    error = outcome.document["error"]
    assert error["code"] == "invalid"
    assert [detail["field"] for detail in error["details"]] == ["--num-epochs"]
    assert affinage("data", "list", "--json").document == {"datasets": []}


def test_settings_say_where_each_value_comes_from(affinage: Affinage) -> None:
    affinage.data_dir.mkdir()
    (affinage.data_dir / "affinage.toml").write_text('log_level = "DEBUG"\n')
    rows = {row["name"]: row for row in affinage("settings", "--json", AFFINAGE_PORT="8123").document["settings"]}
    assert (rows["port"]["value"], rows["port"]["origin"]) == (8123, "AFFINAGE_PORT")
    assert (rows["log_level"]["value"], rows["log_level"]["origin"]) == ("DEBUG", str(affinage.data_dir / "affinage.toml"))
    assert (rows["host"]["value"], rows["host"]["origin"]) == ("127.0.0.1", "default")


def test_data_dir_option_goes_before_the_environment(affinage: Affinage, tmp_path: Path) -> None:
    other = tmp_path / "other"
    rows = affinage("--data-dir", str(other), "settings", "--json").document["settings"]
    assert next(row["value"] for row in rows if row["name"] == "data_dir") == str(other)


def test_a_lost_database_is_made_again_from_the_folders_by_a_command(affinage: Affinage, questions: Path) -> None:
    imported = affinage("data", "import", str(questions), "--json").document
    for file in affinage.data_dir.glob("affinage.db*"):
        file.unlink()
    assert affinage("data", "list", "--json").document == {"datasets": []}
    rebuilt = affinage("doctor", "--rebuild-index", "--json").document
    assert (rebuilt["jobs"], rebuilt["datasets"], rebuilt["unreadable"]) == (0, 1, [])
    (found,) = affinage("data", "list", "--json").document["datasets"]
    assert found["dataset_id"] == imported["dataset_id"]


def test_a_database_of_a_newer_version_and_one_that_does_not_answer_are_refused_in_a_sentence(tmp_path: Path) -> None:
    old = Affinage(tmp_path / "data")
    (tmp_path / "data").mkdir()
    upgrade(f"sqlite:///{tmp_path / 'data' / 'affinage.db'}", tmp_path / "data")
    with sqlite3.connect(tmp_path / "data" / "affinage.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
    for command in (("jobs", "list"), ("serve", "--port", "8769")):
        outcome = old(*command)
        assert outcome.status == 1 and "Traceback" not in outcome.stderr
        assert "newer version of Affinage" in " ".join(outcome.stderr.split())
    away = old("jobs", "list", AFFINAGE_DATABASE_URL=f"postgresql+psycopg://affinage@/none?host={tmp_path}")
    assert away.status == 1 and "Traceback" not in away.stderr
    assert "The database does not answer: connection" in " ".join(away.stderr.split())
