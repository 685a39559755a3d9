"""Cores that this process may use."""

import os

import pytest

from app.hardware.cores import list_usable_cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_those_that_affinity_leaves_are_listed() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {max(before)})
        assert list_usable_cores() == [max(before)]
    finally:
        os.sched_setaffinity(0, before)
    assert list_usable_cores() == sorted(before)


def test_where_the_system_has_no_affinity_all_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert list_usable_cores() == list(range(os.cpu_count() or 1))
