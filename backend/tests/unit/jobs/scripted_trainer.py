"""A real process in place of the trainer: it does what `script.json` in the job folder says, event by event.

Steps: {"step": n}, {"sleep": seconds}, {"status": "..."}, {"exit": code}, {"kill": signal}, {"print": text},
{"report": peak bytes} (report.json),
{"phase": "..."}, {"until_cancel": true} (obeys control/cancel), {"deaf": true} (ignores control/cancel and SIGTERM).
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from app.contracts.events import PhaseStarted, StatusChanged, StepLogged
from app.contracts.report import Report
from app.contracts.status import JobStatus
from app.storage.job_dir import JobDir, write_atomically


def log_step(job_dir: JobDir, number: int) -> None:
    job_dir.append(
        StepLogged(
            step=number,
            total_steps=100,
            epoch=number / 100,
            loss=2.0 / number,
            learning_rate=1e-3,
            grad_norm=1.0,
            tokens=10 * number,
            tokens_per_second=100.0,
            peak_bytes=1 << 20,
            step_seconds=0.1,
            eta_seconds=1.0,
        )
    )


def make_report(peak_bytes: int) -> Report:
    return Report(
        heldout_rows=0, loss_before=None, loss_after=None, train_loss_first=2.0, train_loss_last=1.0, steps=2, tokens=20,
        seconds=1.0, peak_bytes=peak_bytes, trained_rows=1, truncated_rows=0, dropped_rows=0, trained_token_share=1.0,
    )  # fmt: skip


def main() -> int:
    job_dir = JobDir(Path(sys.argv[1]))
    if "--micro-batch" in sys.argv:
        print("micro-batch", sys.argv[sys.argv.index("--micro-batch") + 1], flush=True)
    script = json.loads((job_dir.path / "script.json").read_text())
    attempt = len(list(job_dir.path.glob("attempt-*"))) + 1
    (job_dir.path / f"attempt-{attempt}").touch()
    steps = script[min(attempt, len(script)) - 1]
    for action in steps:
        ((name, value),) = action.items()
        match name:
            case "step":
                log_step(job_dir, value)
            case "sleep":
                time.sleep(value)
            case "status":
                job_dir.append(StatusChanged(status=JobStatus(value)))
            case "phase":
                job_dir.append(PhaseStarted(phase=value))
            case "report":
                write_atomically(job_dir.report_file, make_report(value).model_dump_json())
            case "print":
                print(value, flush=True)
            case "exit":
                return value
            case "kill":
                os.kill(os.getpid(), value)
            case "until_cancel":
                while not job_dir.cancel_file.exists():
                    time.sleep(0.02)
                job_dir.append(StatusChanged(status=JobStatus.CANCELLED))
                return 4
            case "deaf":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                time.sleep(600)
    return 0


if __name__ == "__main__":
    sys.exit(main())
