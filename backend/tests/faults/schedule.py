"""What goes wrong, and when: drawn from a number, so that the same number is the same schedule."""

import random
from dataclasses import dataclass
from typing import Literal

Fault = Literal[
    "kill_trainer",
    "kill_server",
    "kill_both",
    "terminate_trainer",
    "restart_server",
    "freeze_trainer",
    "freeze_server",
    "second_server",
    "pause_and_resume",
    "cancel_and_continue",
    "damage_checkpoint",
    "lock_database",
    "fill_disk",
    "jump_clock",
    "delete_dataset",
    "remove_model",
    "change_model",
    "copy_folder",
    "torn_copy",
]
FAULTS: tuple[Fault, ...] = Fault.__args__  # type: ignore[attr-defined]
FAULTS_TOGETHER = 3
"""In one schedule. A job is tried again three times in a row without a checkpoint between them (jobs/retries.py)."""
LAST_EVENT = 52
"""Of about 60 in an undisturbed run: a fault that is drawn later finds the job ended."""
COLD_EVERY = 20
"""Each so many schedules, servers and trainers are started as users' are, imports included; see warm.py."""
LOCK_SECONDS = (0.5, 2.0, 15.0)
CLOCK_JUMPS = (-86_400, -3_600, -61, 61, 3_600, 86_400 * 40)
"""Seconds; a lease lasts 60."""


@dataclass(frozen=True)
class Stroke:
    """One fault: it strikes `delay_seconds` after the job has written so many events."""

    fault: Fault
    at_event: int
    delay_seconds: float
    damage: Literal["missing", "cut", "changed"]
    """Of a checkpoint's file, or of the database in a torn copy."""
    file: Literal["adapter.safetensors", "optimizer.safetensors", "state.json", "manifest.json"]
    lock_seconds: float
    clock_seconds: int

    @property
    def name(self) -> str:
        """The fault and the event that it waits for."""
        return f"{self.fault}@{self.at_event}"


@dataclass(frozen=True)
class Schedule:
    """One job's fate."""

    seed: int
    cold: bool
    """Servers and trainers import everything at each start."""
    server_dies_at_start: float | None
    """The server is killed so many seconds after it was asked to start the job, and asked again afterwards."""
    strokes: list[Stroke]

    @property
    def names(self) -> list[str]:
        """What goes wrong, for the ledger."""
        first = [] if self.server_dies_at_start is None else ["kill_server@start"]
        return first + [stroke.name for stroke in self.strokes]


def draw(seed: int) -> Schedule:
    """Return the schedule of a number, its strokes in order of time."""
    chance = random.Random(seed)
    strokes = [
        Stroke(
            fault=fault,
            at_event=chance.randint(1, LAST_EVENT),
            delay_seconds=chance.choice((0.0, chance.uniform(0.0, 0.05))),
            damage=chance.choice(("missing", "cut", "changed")),
            file=chance.choice(("adapter.safetensors", "optimizer.safetensors", "state.json", "manifest.json")),
            lock_seconds=chance.choice(LOCK_SECONDS),
            clock_seconds=chance.choice(CLOCK_JUMPS),
        )
        for fault in chance.sample(FAULTS, FAULTS_TOGETHER)
    ]
    dies = chance.uniform(0.0, 0.08) if chance.random() < 1 / 8 else None
    return Schedule(seed, seed % COLD_EVERY == 0, dies, sorted(strokes, key=lambda stroke: stroke.at_event))
