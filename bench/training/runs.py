"""One run of one setting, in a process of its own, and the file that keeps what was measured."""

import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from product import Product, read_steps
from trainers import Setting
from workload import LEARNING_RATE, RANK, SEED, Workload

from app.jobs.executors.environment import trainer_environment

WARM_UP_STEPS = 1
"""Steps whose time does not count."""
LIMIT_SECONDS = 900
DISTURBED_CORES = 0.1
"""A run beside which other processes, or other guests of the machine, took more than this does not count as long as it can be
done again."""
TRL_REQUIREMENT = "trl==1.16.*"


@dataclass(frozen=True)
class Run:
    """What one run showed."""

    tokens_per_second: float
    """Real tokens, padding not counted, of the steps after the warm-up, over the seconds between their ends."""
    wall_seconds: float
    """Process start to process end: imports, loading, tokenising, training, saving."""
    peak_bytes: int
    """Largest resident memory of the process, as the kernel reports it when it ends."""
    first_step_seconds: float
    """Process start to the end of the first step."""
    steps: int
    losses: list[float]
    others_cores: float = 0.0
    """Processor time that other processes took meanwhile, in cores."""
    stolen_cores: float = 0.0
    """Processor time that the hypervisor gave to somebody else meanwhile, in cores."""
    at: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M", time.gmtime()))

    @property
    def disturbed(self) -> bool:
        """Whether somebody else had a share of its processor."""
        return self.others_cores + self.stolen_cores > DISTURBED_CORES


class Results:
    """The file with every run: a bench that was cut off goes on where it stopped."""

    def __init__(self, file: Path) -> None:
        self._file = file
        stored: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
        self.runs: dict[str, dict[str, list[Run]]] = {
            stage: {name: [Run(**run) for run in runs] for name, runs in named.items()}
            for stage, named in stored.get("runs", {}).items()
        }
        self.values: dict[str, Any] = stored.get("values", {})
        """Everything else that was measured, by name."""

    def find(self, stage: str, name: str) -> list[Run]:
        """Return the runs so far of one setting in one stage."""
        return self.runs.get(stage, {}).get(name, [])

    def add(self, stage: str, name: str, run: Run) -> None:
        """Keep one more run."""
        self.runs.setdefault(stage, {}).setdefault(name, []).append(run)
        self.save()

    def put(self, name: str, value: object) -> None:
        """Keep a value."""
        self.values[name] = value
        self.save()

    def save(self) -> None:
        """Write everything."""
        runs = {
            stage: {name: [asdict(run) for run in runs] for name, runs in named.items()} for stage, named in self.runs.items()
        }
        aside = self._file.with_suffix(".tmp")
        aside.write_text(json.dumps({"runs": runs, "values": self.values}, indent=1) + "\n", "utf-8")
        aside.rename(self._file)


def make_trl_python(folder: Path) -> Path:
    """Return the interpreter of TRL's own environment below `folder`; make it where it is missing.

    It sees the packages of this environment behind its own, so both run the same torch, transformers and PEFT.
    """
    target = folder / "trl-venv"
    python = target / "bin" / "python"
    if not (target / "ready").exists():
        shutil.rmtree(target, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(target)], check=True)
        [packages] = target.glob("lib/python*/site-packages")
        [own] = [path for path in sys.path if path.endswith("site-packages")][:1]
        (packages / "project.pth").write_text(own + "\n", "utf-8")
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", TRL_REQUIREMENT], check=True)
        (target / "ready").touch()
    return python


def measure(
    setting: Setting, workload: Workload, product: Product, folder: Path, *, steps: int | None = None, **options: Any
) -> Run:
    """Run one setting once, `steps` optimizer steps or all; its adapter stays in `folder`. Raises RuntimeError.

    `options` are of the product's `finetune`. The product always runs all steps.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows = len(workload.row_tokens) if steps is None else steps * workload.shape.batch
    if setting.trainer == "affinage":
        job = product.write_job(workload, folder / "job", **options)
        command = [sys.executable, "-m", "app.training", str(job.path)]
    else:
        spec = {
            "setting": asdict(setting),
            "model": str(workload.model),
            "rows_file": str(workload.ordered_file),
            "rows": rows,
            "row_tokens": workload.row_tokens,
            "length": workload.shape.length,
            "batch": workload.shape.batch,
            "learning_rate": LEARNING_RATE,
            "rank": RANK,
            "seed": SEED,
            "out": str(folder / "adapter"),
            "result": str(folder / "result.json"),
        }
        script = Path(__file__).with_name(f"peer_{setting.trainer}.py")
        python = make_trl_python(product.folder) if setting.trainer == "trl" else Path(sys.executable)
        command = [str(python), str(script), json.dumps(spec)]
    environment = trainer_environment() if setting.huge_pages else dict(os.environ)
    ended = run_process(command, environment | {"HF_HUB_OFFLINE": "1"}, folder / "log.txt")
    if setting.trainer == "affinage":
        told = read_steps(job, workload)
        (job.path / "adapter").rename(folder / "adapter")
    else:
        told = json.loads((folder / "result.json").read_text("utf-8"))
    ends, tokens = told["step_ends"], told["step_tokens"]
    warm = WARM_UP_STEPS
    return Run(
        tokens_per_second=sum(tokens[warm:]) / (ends[-1] - ends[warm - 1]),
        wall_seconds=ended.seconds,
        peak_bytes=ended.peak_bytes,
        first_step_seconds=ends[0] - ended.started,
        steps=len(ends),
        losses=told["losses"],
        others_cores=ended.others_cores,
        stolen_cores=ended.stolen_cores,
    )


@dataclass(frozen=True)
class Ended:
    """A process that ran to its end."""

    started: float
    """Seconds since the epoch."""
    seconds: float
    peak_bytes: int
    """Resident memory of this process alone, as the kernel counted it."""
    others_cores: float
    stolen_cores: float


def read_processor_seconds() -> tuple[float, float]:
    """Return the seconds that all processes, and that other guests of the machine, took of the processor since the boot."""
    fields = Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()[1:9]
    user, nice, system, _idle, _wait, irq, soft, stolen = (int(field) / os.sysconf("SC_CLK_TCK") for field in fields)
    return user + nice + system + irq + soft, stolen


def run_process(command: list[str], environment: dict[str, str], log_file: Path) -> Ended:
    """Run a command to its end. Raises RuntimeError with the end of its log when it fails."""
    busy, stolen = read_processor_seconds()
    with log_file.open("wb") as log:
        started = time.time()
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        limit = threading.Timer(LIMIT_SECONDS, process.kill)
        limit.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        finally:
            limit.cancel()
        seconds = time.time() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command[:3]} ended with {process.returncode}\n{log_file.read_text('utf-8', 'replace')[-3000:]}")
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if usage.ru_maxrss <= own:
        raise RuntimeError("the child's peak is hidden behind this process's own")
    busy_after, stolen_after = read_processor_seconds()
    return Ended(
        started=started,
        seconds=seconds,
        peak_bytes=usage.ru_maxrss * 1024,
        others_cores=max(0.0, busy_after - busy - usage.ru_utime - usage.ru_stime) / seconds,
        stolen_cores=(stolen_after - stolen) / seconds,
    )
