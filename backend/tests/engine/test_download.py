"""A job whose weights are still on the hub: a real download from a hub on loopback, then a real run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.contracts.dataset import Example, Message
from app.contracts.events import DownloadProgressed, PhaseStarted
from app.core.errors import DatasetInvalid
from app.storage.job_dir import JobDir
from app.training.engine import train
from app.training.stopping import Stopped, StopWatch
from tests.engine.tiny import examples, make_job
from tests.hub.server import HubServer


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, llama: Path) -> Iterator[HubServer]:
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        server.add("org/tiny", {file.name: file.read_bytes() for file in llama.iterdir()})
        yield server


def job_for(hub: HubServer, tmp_path: Path) -> JobDir:
    """Queue a job as the server does for a model that is not here: the folder is named by the commit."""
    commit = hub.repositories["org/tiny"].commit
    target = tmp_path / "data" / "models" / "hub" / "org--tiny" / commit
    job_dir = make_job(tmp_path / "data" / "jobs" / "job", target, train=examples(8), heldout=[], num_epochs=1)
    job = job_dir.read_job()
    model = job.model.model_copy(update={"model_id": "org/tiny", "kind": "hub", "commit": commit, "ready": False})
    job_dir.job_file.write_text(job.model_copy(update={"model": model}).model_dump_json())
    return job_dir


def test_the_trainer_downloads_the_model_first_and_shows_how_far_it_is(hub: HubServer, tmp_path: Path) -> None:
    job_dir = job_for(hub, tmp_path)
    report = train(job_dir, StopWatch(job_dir))
    assert report.steps == 1
    events = list(job_dir.read_events())
    assert [event.phase for event in events if isinstance(event, PhaseStarted)][:2] == ["downloading", "tokenising"]
    progress = [event for event in events if isinstance(event, DownloadProgressed)]
    assert progress[-1].done_bytes == progress[-1].total_bytes > 0


def test_rows_that_nobody_could_check_before_the_download_are_checked_after_it(hub: HubServer, tmp_path: Path) -> None:
    job_dir = job_for(hub, tmp_path)
    written = [Message(role="user", content="[INST] When? [/INST]"), Message(role="assistant", content="Now.")]
    job_dir.train_file.write_text("".join(Example(row=n, messages=written).model_dump_json() + "\n" for n in range(1, 9)))
    with pytest.raises(DatasetInvalid) as caught:
        train(job_dir, StopWatch(job_dir))
    assert caught.value.key == "dataset_invalid.template_doubled"


def test_cancel_works_during_the_download(hub: HubServer, tmp_path: Path) -> None:
    job_dir = job_for(hub, tmp_path)
    job_dir.cancel_file.touch()
    with pytest.raises(Stopped):
        train(job_dir, StopWatch(job_dir))
    assert not Path(job_dir.read_job().model.path).exists()
