"""What a run says about its rows, and what it leaves: the adapter with its tokenizer, and the report."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from app.contracts.events import Noted
from app.contracts.job import TrainingJob
from app.contracts.report import Report
from app.storage.job_dir import JobDir
from app.training.checkpoint import RunState
from app.training.lora import save_adapter
from app.training.memory import peak_bytes, reserved_peak_bytes
from app.training.methods.interface import Method
from app.training.rows import Counts

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)


def note_rows(job_dir: JobDir, train: Counts, heldout: Counts, max_length: int) -> None:
    """Say which rows were cut or left out, and why."""
    counts: dict[str, Callable[[Counts], int]] = {
        "rows_truncated": lambda rows: rows.truncated,
        "rows_divided": lambda rows: rows.divided,
        "rows_dropped.too_long": lambda rows: rows.dropped,
        "rows_dropped.nothing_trained": lambda rows: rows.untrained,
        "rows_dropped.not_renderable": lambda rows: rows.unrenderable,
    }
    for key, count in counts.items():
        if rows := count(train) + count(heldout):
            job_dir.append(Noted(level="warning", key=key, params={"rows": rows, "max_length": max_length}))
    if not heldout.tokens:
        job_dir.append(Noted(level="info", key="no_heldout_rows"))


def save_result(job_dir: JobDir, job: TrainingJob, model: nn.Module) -> None:
    """Write the adapter in PEFT's format, with the tokenizer that it was trained with."""
    folder = Path(job.model.path)
    save_adapter(
        model,
        job_dir.adapter,
        base_model_id=job.model.model_id,
        lora=job.lora,
        revision=job.model.commit if job.model.kind == "hub" else None,
        beside=[folder / name for name in TOKENIZER_FILES if (folder / name).is_file()],
    )


def make_report(
    state: RunState,
    learned: Method,
    unseen: Method,
    *,
    counts: Counts,
    seconds: float,
    device: torch.device,
    result_step: int,
    planned_steps: int,
) -> Report:
    """Return what the run from first to last changed; `counts` are those of the training rows."""
    assert state.loss_first is not None and state.loss_last is not None, "a run has at least one step"
    return Report(
        heldout_rows=len(unseen),
        loss_before=state.heldout_before,
        loss_after=state.heldout_last,
        measures_before=state.measures_before,
        measures_after=state.measures_last,
        train_loss_first=state.loss_first,
        train_loss_last=state.loss_last,
        steps=state.step,
        planned_steps=planned_steps,
        best_step=result_step,
        tokens=state.tokens,
        seconds=seconds,
        peak_bytes=max(state.peak_bytes, peak_bytes(device)),
        peak_reserved_bytes=reserved_peak_bytes(device),
        trained_rows=len(learned),
        truncated_rows=counts.truncated,
        dropped_rows=counts.dropped + counts.untrained + counts.unrenderable,
        trained_token_share=counts.trained_tokens / counts.tokens,
    )
