"""Files for bench/planner/ground_truth.py: what cannot be judged is named, whatever it is."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[4] / "bench" / "planner"
ROW: dict[str, Any] = {
    "model_id": "someone/tiny", "gpu": "Tesla T4",
    "run": {
        "gpu_name": "Tesla T4", "kernel": "flash", "attn_impl": "sdpa", "seq_len": 512, "batch_size": 1, "precision": "fp16",
        "quantization": "none", "double_quant": False, "optimizer": "adamw", "lora_rank": 16, "lora_targets": ["q_proj"],
        "grad_checkpoint": True,
    },
    "model_config": {
        "name": "tiny", "num_params": 1000, "hidden_size": 64, "num_layers": 2, "num_attention_heads": 4, "num_kv_heads": 4,
        "intermediate_size": 128, "vocab_size": 300, "head_dim": 16, "tie_word_embeddings": True,
    },
    "measured": {"peak_allocated_mib": 100.0, "peak_reserved_mib": 120.0, "step_seconds": 0.5},
}  # fmt: skip


def judge(*files: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCH / "ground_truth.py"), *map(str, files), "--json"], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is no JSON"),
        ("[]", "no row"),
        ("null", "no row"),
        ('{"runs": []}', "no row"),
        (None, "cannot be read"),
    ],
)
def test_a_file_without_rows_is_an_error_in_one_sentence(tmp_path: Path, content: str | None, said: str) -> None:
    file = tmp_path / "rows.json"
    if content is not None:
        file.write_text(content)
    answer = judge(file)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert said in answer.stderr and "Traceback" not in answer.stderr


def test_rows_that_cannot_be_judged_are_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCH)])
    from ground_truth import read_groups

    def changed(part: str, name: str, value: object) -> dict[str, Any]:
        row = copy.deepcopy(ROW)
        row[part][name] = value
        return row

    faulty = [
        changed("measured", "peak_reserved_mib", None), changed("measured", "step_seconds", float("nan")),
        changed("measured", "peak_allocated_mib", 0), changed("run", "batch_size", "2"), changed("run", "seq_len", -4),
        changed("run", "optimizer", "sgd"), changed("model_config", "num_layers", 0),
        {name: value for name, value in ROW.items() if name != "model_config"}, "row",
    ]  # fmt: skip
    file = tmp_path / "rows.json"
    file.write_text(json.dumps({"runs": [ROW, *faulty, copy.deepcopy(ROW)]}))
    assert read_groups([file]) == [[ROW, ROW]]
    told = capsys.readouterr().err.splitlines()
    assert [f"row {number} is left out" in line for number, line in enumerate(told, start=2)] == [True] * len(faulty)
    assert "peak_reserved_mib" in told[0] and "seq_len" in told[4] and "model_config" in told[7]
