"""Has the kernel killed a process for want of memory? Counters only rise, so two readings tell."""

from pathlib import Path

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")


def oom_kills(proc: Path = PROC, cgroup: Path = CGROUP) -> int | None:
    """Return how many processes the kernel has killed for memory since boot, as far as this process can see.

    Our own control group's counter (v2 `memory.events`, v1 `memory.oom_control`) is the precise one; without it, the
    machine's (`oom_kill` in /proc/vmstat, Linux >= 4.13). None where there is neither.
    """
    for path in (*_own_group_files(proc, cgroup), proc / "vmstat"):
        count = _field(path, "oom_kill")
        if count is not None:
            return count
    return None


def _own_group_files(proc: Path, cgroup: Path) -> list[Path]:
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    files = []
    for line in lines:
        hierarchy, controllers, path = line.split(":", 2)
        if hierarchy == "0":
            files.append(cgroup / path.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            files.append(cgroup / "memory" / path.lstrip("/") / "memory.oom_control")
    return files


def _field(path: Path, name: str) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return None
