"""What goes wrong, and when: drawn from a number, so that the same number is the same schedule."""

import random
from dataclasses import dataclass
from typing import Literal

Fault = Literal[
    "kill_trainer",
    "kill_server",
    "kill_both",
    "terminate_trainer",
    "freeze_trainer",
    "pause_and_resume",
    "damage_checkpoint",
    "lock_database",
    "delete_dataset",
    "cancel_and_continue",
]
FAULTS: tuple[Fault, ...] = Fault.__args__  # type: ignore[attr-defined]
LAST_EVENT = 45
"""Of about 60 in an undisturbed run: a fault that is drawn later finds the job ended."""


@dataclass(frozen=True)
class Stroke:
    """One fault: it strikes as soon as the job has written so many events."""

    fault: Fault
    at_event: int
    damage: Literal["missing", "cut", "changed"]
    file: Literal["adapter.safetensors", "optimizer.safetensors", "state.json", "manifest.json"]


def draw(seed: int, faults: int = 2) -> list[Stroke]:
    """Return the schedule of a number, earliest first."""
    chance = random.Random(seed)
    strokes = [
        Stroke(
            fault=chance.choice(FAULTS),
            at_event=chance.randint(1, LAST_EVENT),
            damage=chance.choice(("missing", "cut", "changed")),
            file=chance.choice(("adapter.safetensors", "optimizer.safetensors", "state.json", "manifest.json")),
        )
        for _ in range(faults)
    ]
    return sorted(strokes, key=lambda stroke: stroke.at_event)
