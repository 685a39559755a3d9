"""Presets by type of task: which loss, how many passes and which learning rate suit it, and why. They act only when asked.

Passes over the rows follow what published trainings of that size did:
- 5, the specification's default, below 1,000 rows: little data wants several passes (LIMA took 15 over 1,000 rows, Zhou et
  al. 2023, arXiv 2305.11206; early stopping ends them where the held-out loss rises);
- 3 up to 100,000 rows, as Stanford Alpaca (2023) over 52,000;
- 1 beyond, as Zephyr's supervised stage over 200,000 (huggingface/alignment-handbook, recipes/zephyr-7b-beta/sft).
Classes: 2 to 4 passes, as Devlin et al. 2018 (arXiv 1810.04805, appendix A.3) advise. Raw text: up to 4, which is nearly as
good as new text (Muennighoff et al. 2023, arXiv 2305.16264). Preferences: 1, below 1,000 rows 3 (Tunstall et al. 2023,
arXiv 2310.16944, sections 4 and 5).
"""

from typing import Any, Literal, NamedTuple, get_args

from app.contracts.dataset import Shape
from app.contracts.options import Method
from app.contracts.plan import Notice
from app.services.dataset_service import get_dataset
from app.services.finetuning_service import get_model
from app.services.learning_method import METHODS, PREFERENCE_RATE_SHARE
from app.services.studio import Studio

Task = Literal["chat", "instruction", "completion", "classification", "preference"]
TASKS: tuple[Task, ...] = get_args(Task)

USUAL_TASK: dict[Shape, Task] = {
    "alpaca": "instruction",
    "prompt_completion": "completion",
    "question_answer": "instruction",
    "messages": "chat",
    "sharegpt": "chat",
    "text": "completion",
    "preference": "preference",
    "unpaired": "preference",
    "classification": "classification",
    "instances": "instruction",
}
"""What rows of a shape are mostly made for."""

FEW_ROWS, MANY_ROWS, VERY_MANY_ROWS = 1_000, 10_000, 100_000


class Preset(NamedTuple):
    """Values for one type of task."""

    task: Task
    suits: bool
    """Whether the data set can be learned this way."""
    usual: bool
    """Whether the rows' arrangement is mostly made for this task."""
    values: dict[str, Any]
    """Options and their values, to be sent with a start; empty where it does not suit."""
    reasons: list[Notice]


def list_presets(studio: Studio, dataset_id: str, model_id: str) -> list[Preset]:
    """Return a preset for every type of task, for these rows and this model. Raise NotFound, or what the hub answers."""
    info = get_dataset(studio, dataset_id)
    rate = get_model(studio, model_id).entry.learning_rate
    return [_make_preset(task, info.mapping.shape, info.train_rows, rate) for task in TASKS]


def _make_preset(task: Task, shape: Shape, rows: int, rate: float) -> Preset:
    usual = USUAL_TASK[shape] == task
    method = _pick_method(task, shape)
    if method is None:
        return Preset(task, suits=False, usual=False, values={}, reasons=[Notice(key=f"preset_unfit.{task}")])
    epochs = count_epochs(method, rows)
    judged = method in ("dpo", "kto")
    chosen_rate = float(f"{rate * PREFERENCE_RATE_SHARE:.2g}") if judged else rate
    values: dict[str, Any] = {"method": method, "num_epochs": epochs, "learning_rate": chosen_rate}
    if method == "pretraining":
        values["long_rows"] = "split"
    reasons = [
        Notice(key=f"preset_loss.{method}"),
        Notice(key=f"preset_template.{'written' if shape == 'text' else 'chat'}"),
        Notice(key=f"preset_epochs.{_size(method, rows)}", params={"epochs": epochs, "rows": rows}),
        Notice(key=f"preset_rate.{'judged' if judged else 'model'}", params={"rate": chosen_rate}),
    ]
    return Preset(task, suits=True, usual=usual, values=values, reasons=reasons)


def _pick_method(task: Task, shape: Shape) -> Method | None:
    """Return how rows of this shape are learned for a task; None where they cannot be."""
    wanted: dict[Task, tuple[Method, ...]] = {
        "chat": ("sft",),
        "instruction": ("sft",),
        "completion": ("pretraining", "sft"),
        "classification": ("classification",),
        "preference": ("dpo", "kto"),
    }
    return next((method for method in METHODS[shape] if method in wanted[task]), None)


def count_epochs(method: Method, rows: int) -> int:
    """Return the passes over `rows` training rows; see the module's text for the sources."""
    few, usual, many = {
        "sft": (5, 3, 1),
        "pretraining": (4, 2, 1),
        "classification": (4, 3, 2),
        "dpo": (3, 1, 1),
        "kto": (3, 1, 1),
    }[method]
    return {"few": few, "usual": usual, "many": many}[_size(method, rows)]


def _size(method: Method, rows: int) -> Literal["few", "usual", "many"]:
    if rows < FEW_ROWS:
        return "few"
    return "many" if rows >= (MANY_ROWS if method == "classification" else VERY_MANY_ROWS) else "usual"
