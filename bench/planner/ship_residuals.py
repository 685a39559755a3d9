"""`.venv/bin/python bench/planner/ship_residuals.py [--grid FILE]`: measured over predicted peaks, for the planner's bound.

Cards: the measured rows of shared/data that ground_truth.py traced, what the allocator had taken over what the replay of it
says (`replayed`, all rows), and over the traced live tensors (`traced`; only rows whose attention keeps no score matrix,
as ours). These ran on the stock stack, traced by the same tracer: our own engine was never measured on a card.
Processor: each job of cpu_grid.py's results, the largest of its runs. Writes backend/app/planner/residuals.json.
"""

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from ground_truth import Row, read_known

HERE = Path(__file__).parent
SHIPPED = HERE.parents[1] / "backend" / "app" / "planner" / "residuals.json"

Groups = dict[tuple[str, str, str, str], list[float]]
"""(device, quantization, prediction, source) -> log ratios."""


def measure_cards(rows: list[Row]) -> Groups:
    """Return the residuals of the measured cards."""
    groups: Groups = defaultdict(list)
    for row in rows:
        source = f"{row.gpu}, stock transformers and PEFT; rows of fitcheck-llm 0.3.1 (MIT)"
        groups["cuda", row.quantization, "replayed", source].append(row.log_reserved)
        if row.kernel != "eager":
            ratio = row.reserved_bytes / row.predicted_allocated_bytes
            groups["cuda", row.quantization, "traced", source].append(math.log(ratio))
    return groups


def read_grid(file: Path) -> Groups:
    """Return the residuals of the jobs that ran on a processor."""
    content: dict[str, Any] = json.loads(file.read_text("utf-8"))
    machine = content["machine"]
    source = f"{machine.get('processor', 'processor')}, {machine.get('cores')} cores, our engine; bench/planner/cpu_grid.py"
    groups: Groups = defaultdict(list)
    for name, runs in content["measured"].items():
        predicted = content["predicted"][name]
        peak = max(run["peak_bytes"] for run in runs)
        groups["cpu", "none", predicted["memory_method"], source].append(math.log(peak / predicted["peak_bytes"]))
    return groups


def main() -> None:
    """Read, write, say what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", type=Path, help="results of cpu_grid.py; without it those shipped now are kept")
    arguments = parser.parse_args()
    entries = []
    rows = read_known()
    if not rows:
        parser.error("the measured rows (shared/data/t4_ground_truth) are not here")
    groups = measure_cards(rows)
    if arguments.grid:
        groups |= read_grid(arguments.grid)
    else:
        entries = [group for group in json.loads(SHIPPED.read_text("utf-8"))["groups"] if group["device"] == "cpu"]
    for (device, quantization, prediction, source), ratios in sorted(groups.items()):
        rounded = sorted(round(value, 5) for value in ratios)
        entries.append(
            {
                "device": device, "quantization": quantization, "prediction": prediction, "source": source,
                "log_ratios": rounded,
            }
        )  # fmt: skip
    SHIPPED.write_text(json.dumps({"groups": entries}, indent=1) + "\n", "utf-8")
    for entry in entries:
        ratios, name = entry["log_ratios"], f"{entry['device']} {entry['quantization']} {entry['prediction']}"
        print(f"{name}: n = {len(ratios)}, at most {math.exp(max(ratios)):.3f}")


if __name__ == "__main__":
    main()
