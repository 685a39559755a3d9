"""One opened data folder: settings, database, models, hardware, and the parts that live as long as the process."""

import logging
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from app.contracts.hardware import Hardware
from app.core.settings import Settings
from app.hardware.probe import probe
from app.jobs.broker import Broker
from app.jobs.supervisor import Supervisor
from app.services.analyses import Analyses
from app.services.downloads import Downloads
from app.services.imports import Imports
from app.services.inference_workers import InferenceWorkers
from app.services.tracing_service import Tracing, open_tracing
from app.services.trackers import Trackers
from app.services.upstream import Upstream
from app.services.webhook import Webhook
from app.storage.added_models import AddedModels
from app.storage.dataset_dir import DatasetDir, clean_up, list_datasets
from app.storage.db import Database
from app.storage.folder_identity import read_folder_id
from app.storage.job_dir import JobDir, RequestKey
from app.storage.migrate import upgrade
from app.storage.model_store import ModelStore
from app.storage.planner_dir import PlannerDir
from app.storage.repositories import Datasets, Jobs
from app.storage.server_lock import AlreadyServed, ServerLock

log = logging.getLogger(__name__)

FOLDERS = ("datasets", "models", "jobs", "run", "logs", "tmp")
HARDWARE_SECONDS = 3.0
"""How long a measurement of the machine is good for."""


class HardwareGauge:
    """Measures the machine, at most once in a few seconds."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._lock = threading.Lock()
        self._measured: tuple[float, Hardware] | None = None

    def read(self) -> Hardware:
        """Return the machine as it was at most HARDWARE_SECONDS ago."""
        with self._lock:
            if self._measured is None or time.monotonic() - self._measured[0] > HARDWARE_SECONDS:
                self._measured = (time.monotonic(), probe(self._data_dir))
            return self._measured[1]


@dataclass(frozen=True)
class Studio:
    """Everything that a use case needs. Services take it as their first argument."""

    settings: Settings
    database: Database
    models: ModelStore
    added: AddedModels
    planner_dir: PlannerDir
    gauge: HardwareGauge
    broker: Broker
    supervisor: Supervisor
    downloads: Downloads
    analyses: Analyses
    imports: Imports
    workers: InferenceWorkers
    tracing: Tracing
    upstream: Upstream
    lock: ServerLock
    folder_id: str
    """Names the data folder (storage/folder_identity.py)."""
    request_key: RequestKey | None = field(default=None)
    """Set while one request is served: the job that it queues is remembered under this key."""

    def hardware(self) -> Hardware:
        """Return the machine as it was at most a few seconds ago."""
        return self.gauge.read()

    def release_device(self, device_id: str) -> None:
        """Make chat and tracing give a device and their memory up."""
        give_way(self.tracing, self.workers, device_id)

    def job_dir(self, job_id: str) -> JobDir:
        """Return the folder of a job."""
        return JobDir(self.settings.data_dir / "jobs" / job_id)

    def dataset_dir(self, dataset_id: str) -> DatasetDir:
        """Return the folder of a data set."""
        return DatasetDir(self.settings.data_dir / "datasets" / dataset_id)

    def for_request(self, key: RequestKey | None) -> "Studio":
        """Return the same studio for one request that carries a key."""
        return replace(self, request_key=key)

    @contextmanager
    def supervising(self, address: str = "command line", *, required: bool = False) -> Iterator[bool]:
        """Run jobs in this process unless another one does; yield whether this one does.

        A command without a server wraps its job in this; a running trainer survives the end of the block and is found
        again by the next supervisor. With `required`, raise AlreadyServed instead of yielding False.
        """
        shared = self.settings.shares_database
        try:
            if shared and not required and self.lock.held():
                yield False
                return
            alone = self.lock.join(address) if shared else bool(self.lock.acquire(address))
        except AlreadyServed:
            if required:
                raise
            yield False
            return
        try:
            if alone:
                self._tidy()
            self.supervisor.start(alone=alone)
            if shared:
                self.lock.share()
            yield True
        finally:
            self.supervisor.stop()
            self.lock.release()

    def _tidy(self) -> None:
        """Undo what a crash left behind; only the holder of the lock may, as nobody else is at work then."""
        datasets = self.settings.data_dir / "datasets"
        clean_up(datasets)
        for leftover in (self.settings.data_dir / "tmp").iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        with self.database.writing() as session:
            Jobs(session).settle(self.folder_id)
            index = Datasets(session)
            found = {folder.dataset_id: folder for folder in list_datasets(datasets)}
            for dataset_id in set(index.ids_newest_first(self.folder_id)) - set(found):
                index.delete(dataset_id)
            for folder in found.values():
                index.put(folder.read_info(), self.folder_id)

    def close(self) -> None:
        """Stop the threads of this process and return its connections; trainers go on."""
        self.broker.close()
        self.downloads.close()
        self.analyses.close()
        self.supervisor.stop()
        self.workers.close()
        self.tracing.close()
        self.lock.release()
        self.database.close()


def give_way(tracing: Tracing, workers: InferenceWorkers, device_id: str) -> None:
    """Make everything that can be started again give its memory to what comes to `device_id`."""
    tracing.release()
    workers.release(device_id)


def tell_everyone(webhook: Webhook, trackers: Trackers, job_id: str) -> None:
    """Tell those outside that a job has ended; waits for none of them."""
    webhook.tell(job_id)
    trackers.tell(job_id)


def prepare_data(settings: Settings) -> None:
    """Make what is missing of the data folder (0700) and bring the database to the present schema.

    Raise Conflict for a database of a newer version, and for one of an earlier version while its server runs.
    """
    data_dir = settings.data_dir
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    data_dir.chmod(0o700)
    for name in FOLDERS:
        (data_dir / name).mkdir(mode=0o700, exist_ok=True)
    upgrade(settings.resolved_database_url, data_dir)


def open_studio(settings: Settings) -> Studio:
    """Open the data folder and the database, made or upgraded where needed. Raise Conflict (a newer version's)."""
    prepare_data(settings)
    data_dir = settings.data_dir
    database = Database(settings.resolved_database_url)
    broker = Broker()
    models = ModelStore.from_settings(settings)
    workers = InferenceWorkers(settings)
    tracing = open_tracing(data_dir, enabled=settings.trace_plans, idle_seconds=settings.trace_idle_seconds)
    return Studio(
        settings=settings,
        database=database,
        models=models,
        added=AddedModels(data_dir / "models" / "added"),
        planner_dir=PlannerDir(data_dir / "planner"),
        gauge=HardwareGauge(data_dir),
        broker=broker,
        supervisor=Supervisor(
            settings,
            database,
            broker,
            release_device=partial(give_way, tracing, workers),
            on_end=partial(
                tell_everyone,
                Webhook(settings.webhook_url, data_dir, database),
                Trackers(settings.trackers, data_dir),
            ),
        ),
        downloads=Downloads(models),
        analyses=Analyses(),
        imports=Imports(),
        workers=workers,
        tracing=tracing,
        upstream=Upstream(settings),
        lock=ServerLock(data_dir),
        folder_id=read_folder_id(data_dir),
    )
