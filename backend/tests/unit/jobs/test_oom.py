"""Where the count of processes killed for memory is read from."""

from pathlib import Path

import pytest

from app.jobs.oom import oom_kills


def test_the_own_control_group_comes_before_the_machine(tmp_path: Path) -> None:
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "vmstat").write_text("nr_free_pages 5\noom_kill 9\n")
    (proc / "self" / "cgroup").write_text("0::/app/one\n")
    assert oom_kills(proc, cgroup) == 9
    (cgroup / "app" / "one").mkdir(parents=True)
    (cgroup / "app" / "one" / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\n")
    assert oom_kills(proc, cgroup) == 2


def test_version_1_of_control_groups_is_read_too(tmp_path: Path) -> None:
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("5:cpu,cpuacct:/x\n4:memory:/x\n")
    (cgroup / "memory" / "x").mkdir(parents=True)
    (cgroup / "memory" / "x" / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 4\n")
    assert oom_kills(proc, cgroup) == 4


def test_without_any_counter_nothing_is_claimed(tmp_path: Path) -> None:
    assert oom_kills(tmp_path, tmp_path) is None


@pytest.mark.skipif(not Path("/proc/vmstat").exists(), reason="no Linux")
def test_this_machine_has_a_counter() -> None:
    found = oom_kills()
    assert found is not None and found >= 0
