"""What a card's allocator will reserve: replayed by the real worker while nobody waits, found by the next plan."""

import time
from pathlib import Path

import pytest

from app.contracts.plan import Plan
from app.services import tracing_service
from app.services.traced_plan import make_traced_plan
from app.services.tracing_service import Tracing, open_tracing
from tests.unit.planner.test_fit import device, plan_request

CONFIG = {
    "model_type": "gpt2", "n_embd": 256, "n_head": 4, "n_layer": 3, "vocab_size": 2000, "n_positions": 1024,
}  # fmt: skip
"""Small: what is asked is whether the answers find their way, not how large they are."""


def open_there(folder: Path) -> Tracing:
    (folder / "logs").mkdir(exist_ok=True)
    return open_tracing(folder, enabled=True, idle_seconds=60.0)


def plan(tracing: Tracing) -> Plan:
    return make_traced_plan(tracing, plan_request("distilgpt2", device(24)), CONFIG)


def test_a_plan_on_a_card_gets_its_reserved_memory_once_it_was_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing_service, "CALM_SECONDS", 0.0)
    monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
    tracing = open_there(tmp_path)
    try:
        first = plan(tracing)
        assert (first.memory_method, first.reserved_bytes, first.reserved_method) == ("traced", None, None)
        deadline = time.monotonic() + 120
        while (found := plan(tracing)).reserved_bytes is None:
            assert time.monotonic() < deadline, (tmp_path / "logs" / "trace.log").read_text()
            time.sleep(0.2)
    finally:
        tracing.close()
    live = found.peak_bytes - found.parts.context
    assert 0.98 * live < found.reserved_bytes < 1.2 * live
    assert found.reserved_method == "replayed_expandable"
    again = open_there(tmp_path)
    assert plan(again).reserved_bytes == found.reserved_bytes
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "expandable_segments:False")
    assert plan(again).reserved_bytes is None
    again.close()
