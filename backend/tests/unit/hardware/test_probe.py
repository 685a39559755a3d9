"""The probe on this machine, and on made-up kernel trees of containers and odd machines."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from app.contracts.hardware import Device
from app.core.messages import LANGUAGES, localise
from app.hardware.cgroups import find_memory_limit, find_processor_limit
from app.hardware.nvidia import Cards, find_cards, select_visible
from app.hardware.probe import explain_unused, find_display_vendors, find_free_disk, probe, read_memory, read_processor

GIB = 1 << 30
MEMINFO = "MemTotal:       33554432 kB\nMemFree:         1000000 kB\nMemAvailable:   16777216 kB\n"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def processors(*threads: tuple[int, int, str]) -> str:
    """cpuinfo of threads given as (number, core, flags)."""
    return "\n\n".join(
        f"processor\t: {number}\nmodel name\t: Test CPU\nphysical id\t: 0\ncore id\t\t: {core}\nflags\t\t: fpu {flags}"
        for number, core, flags in threads
    )


def card(number: int, gigabytes: int) -> Device:
    return Device(
        id=f"cuda:{number}", kind="cuda", name="RTX 3090", memory_total_bytes=gigabytes * GIB, memory_free_bytes=gigabytes * GIB,
        compute_capability=(8, 6), bf16=True,
    )  # fmt: skip


def test_this_machine_is_described_truthfully(tmp_path: Path) -> None:
    found = probe(tmp_path)
    processor = found.devices[-1]
    assert (processor.id, processor.kind) == ("cpu", "cpu")
    assert found.best is found.devices[0]
    assert 0 < processor.memory_free_bytes <= processor.memory_total_bytes <= psutil.virtual_memory().total
    assert processor.cores is not None and 1 <= processor.cores <= len(os.sched_getaffinity(0))
    assert processor.name == found.cpu_name != ""
    assert found.disk_free_bytes > 0
    flags = Path("/proc/cpuinfo").read_text()
    assert processor.bf16 == ("avx512_bf16" in flags or "amx_bf16" in flags)


def test_probing_imports_no_torch(tmp_path: Path) -> None:
    script = "import sys, pathlib; from app.hardware.probe import probe; probe(pathlib.Path('.')); print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


def test_without_a_cgroup_the_kernel_s_figures_count(tmp_path: Path) -> None:
    proc = write(tmp_path / "proc", {"meminfo": MEMINFO, "self/cgroup": "0::/\n"})
    assert read_memory(proc, tmp_path / "sys") == (32 * GIB, 16 * GIB)


def test_a_version_2_limit_counts_and_file_pages_that_can_be_dropped_are_free(tmp_path: Path) -> None:
    proc = write(tmp_path / "proc", {"meminfo": MEMINFO, "self/cgroup": "0::/box/job\n"})
    sys_tree = write(
        tmp_path / "sys/fs/cgroup",
        {
            "box/job/memory.max": "max\n",
            "box/job/memory.current": "1",
            "box/memory.max": str(4 * GIB),
            "box/memory.current": str(3 * GIB),
            "box/memory.stat": f"anon {GIB}\ninactive_file {GIB}\n",
        },
    ).parents[1]
    assert read_memory(proc, sys_tree) == (4 * GIB, 2 * GIB)


def test_inside_a_container_the_mount_point_is_the_group(tmp_path: Path) -> None:
    proc = write(tmp_path / "proc", {"meminfo": MEMINFO, "self/cgroup": "0::/docker/0123\n"})
    files = {"memory.max": str(2 * GIB), "memory.current": str(GIB // 2)}
    sys_tree = write(tmp_path / "sys/fs/cgroup", files).parents[1]
    assert read_memory(proc, sys_tree) == (2 * GIB, 3 * GIB // 2)


def test_a_version_1_limit_counts_and_its_huge_number_means_none(tmp_path: Path) -> None:
    proc = write(tmp_path / "proc", {"meminfo": MEMINFO, "self/cgroup": "4:memory:/box\n3:cpu,cpuacct:/box\n0::/\n"})
    sys_tree = write(
        tmp_path / "sys/fs/cgroup",
        {
            "memory/box/memory.limit_in_bytes": str(8 * GIB),
            "memory/box/memory.usage_in_bytes": str(GIB),
            "memory/memory.limit_in_bytes": "9223372036854771712",
            "cpu,cpuacct/box/cpu.cfs_quota_us": "150000",
            "cpu,cpuacct/box/cpu.cfs_period_us": "100000",
        },
    ).parents[1]
    limit = find_memory_limit(proc, sys_tree)
    assert limit is not None
    assert (limit.limit_bytes, limit.free_bytes) == (8 * GIB, 7 * GIB)
    assert find_processor_limit(proc, sys_tree) == 1.5


def test_threads_of_one_core_and_processors_beyond_the_affinity_do_not_count(tmp_path: Path) -> None:
    allowed = sorted(os.sched_getaffinity(0))[:1]
    beyond = max(os.sched_getaffinity(0)) + 100
    threads = [(allowed[0], 0, "avx512_bf16"), (beyond, 1, "avx512_bf16")]
    proc = write(tmp_path / "proc", {"cpuinfo": processors(*threads)})
    assert read_processor(proc, tmp_path / "sys") == ("Test CPU", 1, True, False)


def test_hyper_threads_share_a_core(tmp_path: Path) -> None:
    threads = [(number, 0, "avx2") for number in os.sched_getaffinity(0)]
    proc = write(tmp_path / "proc", {"cpuinfo": processors(*threads)})
    assert read_processor(proc, tmp_path / "sys") == ("Test CPU", 1, False, False)


def test_a_processor_quota_limits_the_cores(tmp_path: Path) -> None:
    threads = [(number, number, "amx_bf16") for number in os.sched_getaffinity(0)]
    proc = write(tmp_path / "proc", {"cpuinfo": processors(*threads), "self/cgroup": "0::/\n"})
    sys_tree = write(tmp_path / "sys/fs/cgroup", {"cpu.max": "100000 100000\n"}).parents[1]
    assert read_processor(proc, sys_tree) == ("Test CPU", 1, True, False)


def test_files_that_make_no_sense_are_passed_over(tmp_path: Path) -> None:
    proc = write(tmp_path / "proc", {"meminfo": "nonsense", "cpuinfo": "\n\n", "self/cgroup": "bad\n0::/a\n"})
    sys_tree = write(tmp_path / "sys/fs/cgroup", {"memory.max": "many", "cpu.max": "max 100000"}).parents[1]
    total, available = read_memory(proc, sys_tree)
    assert 0 < available <= total
    name, cores, bf16, _ = read_processor(proc, sys_tree)
    assert (name, bf16) == ("CPU", False)
    assert cores >= 1


@pytest.mark.parametrize(
    ("cards", "build", "reason"),
    [
        (Cards([card(0, 24)], "570"), "2.13.0+cpu", "gpu_unused.cpu_build"),
        (Cards([card(0, 24)], "570"), None, "gpu_unused.no_engine"),
        (Cards([card(0, 24)], "570"), "2.13.0+cu130", None),
        (Cards([card(0, 24)], "570"), "2.13.0", None),
        (Cards([], "570", hidden=True), "2.13.0", "gpu_unused.hidden"),
        (Cards(), "2.13.0+cpu", None),
    ],
)
def test_a_card_that_cannot_be_used_is_explained_in_both_languages(
    tmp_path: Path, cards: Cards, build: str | None, reason: str | None
) -> None:
    assert explain_unused(cards, build, tmp_path) == reason
    if reason:
        assert all(localise(reason, language)[0] for language in LANGUAGES)


def test_a_card_without_a_driver_is_seen_on_the_pci_bus(tmp_path: Path) -> None:
    bus = {
        "bus/pci/devices/0000:01:00.0/class": "0x030000\n",
        "bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
        "bus/pci/devices/0000:00:1f.0/class": "0x060100\n",
        "bus/pci/devices/0000:00:1f.0/vendor": "0x1002\n",
    }
    sys_tree = write(tmp_path, bus)
    assert find_display_vendors(sys_tree) == {"nvidia"}
    assert explain_unused(Cards(), "2.13.0", sys_tree) == "gpu_unused.no_driver"


@pytest.mark.parametrize(
    ("variable", "shown"),
    [(None, [0, 1, 2]), ("", []), ("-1", []), ("2,0", [2, 0]), ("1,7,0", [1]), ("GPU-bb", [1]), ("GPU-", []), ("0,0", [0])],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(variable: str | None, shown: list[int]) -> None:
    assert select_visible(["GPU-aa", "GPU-bb", "GPU-cc"], variable) == shown


def test_looking_for_cards_never_raises() -> None:
    for found in find_cards().devices:
        assert found.memory_total_bytes > GIB


def test_free_disk_is_found_for_a_folder_that_does_not_exist_yet(tmp_path: Path) -> None:
    assert find_free_disk(tmp_path / "not" / "yet") > 0
