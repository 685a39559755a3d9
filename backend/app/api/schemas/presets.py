"""What the preset route answers."""

from typing import Any

from pydantic import BaseModel

from app.services.preset_service import Task


class PresetRead(BaseModel):
    """Values for one type of task, with the reason of each; they act only when they are sent with a start."""

    task: Task
    name: str
    suits: bool
    """Whether the data set can be learned this way."""
    usual: bool
    """Whether the rows' arrangement is mostly made for this task."""
    values: dict[str, Any]
    """Options of POST /api/start-finetuning and their values; empty where it does not suit."""
    reasons: list[str]


class PresetList(BaseModel):
    """One preset for each type of task."""

    presets: list[PresetRead]
