"""An upgrade under a running trainer: after its first step it needs nothing of the installation any more."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import app
from app.contracts.events import StepLogged
from tests.engine.tiny import examples, make_job

TRAIN = """
import json, shutil, sys
from pathlib import Path

folder, installation, record = map(Path, sys.argv[1:])
events, asked = folder / "events.jsonl", []

class Watch:
    \"\"\"Stands before every other finder and notes what is asked for after the first step.\"\"\"
    stepped = False

    def find_spec(self, name, path=None, target=None):
        if self.stepped:
            asked.append(name)
        return None

watch = Watch()
sys.meta_path.insert(0, watch)
from app.training.__main__ import main
from app.storage.job_dir import JobDir

append = JobDir.append
def append_and_upgrade(self, event):
    if event.kind == "step_logged" and not watch.stepped:
        watch.stepped = True
        shutil.rmtree(installation / "app")
    return append(self, event)
JobDir.append = append_and_upgrade
code = main([str(folder)])
record.write_text(json.dumps(asked))
sys.exit(code)
"""


def test_a_trainer_ends_well_though_the_installation_is_replaced_after_its_first_step(llama: Path, tmp_path: Path) -> None:
    installation = tmp_path / "installation"
    shutil.copytree(Path(app.__file__).parent, installation / "app", ignore=shutil.ignore_patterns("web"))
    job_dir = make_job(tmp_path / "job", llama, train=examples(32), heldout=examples(5, start=500), checkpoint_every_seconds=0.0)
    record = tmp_path / "imports.json"
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(job_dir.path), str(installation), str(record)],
        env={**os.environ, "PYTHONPATH": str(installation)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (installation / "app").exists()
    assert sum(isinstance(event, StepLogged) for event in job_dir.read_events()) == 8
    assert json.loads(record.read_text()) == []
