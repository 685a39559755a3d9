"""The thread that takes jobs from the queue to their end.

It claims each queued job whose device is free, starts a trainer for it, takes its events in, sees to cancellation, and
says why a trainer died. It holds no state that a restart could lose: everything is in the database and in the job
folders, so that a new supervisor finds running trainers again. Over SQLite there is one supervisor per data folder
(server.lock); over PostgreSQL several may share one, each looking after the jobs whose leases it holds.
"""

import logging
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable

from sqlalchemy.exc import IntegrityError

from app.contracts.events import JobFailed, StatusChanged
from app.contracts.job import TrainingJob
from app.contracts.status import JobStatus
from app.core.settings import Settings
from app.jobs.autopsy import conclude
from app.jobs.broker import Broker
from app.jobs.executors.interface import Executor, Gone
from app.jobs.executors.local import LocalExecutor, boot_id
from app.jobs.indexing import adopt, mend_events
from app.jobs.ingest import apply, ingest
from app.jobs.oom import oom_kills
from app.jobs.recording import make_record
from app.jobs.retries import count_retries
from app.jobs.watchdog import Step, Watchdog
from app.storage.db import Database
from app.storage.folder_identity import read_folder_id
from app.storage.job_dir import JobDir, utc_now
from app.storage.leases import Claimant, Leases, release
from app.storage.planner_dir import PlannerDir
from app.storage.repositories import ACTIVE, Jobs
from app.storage.tables import JobRow

log = logging.getLogger(__name__)

TICK_SECONDS = 0.3
RENEW_SECONDS = 10.0
"""How often leases are renewed and those of dead servers are looked for."""
KILL_AFTER_TERM_SECONDS = 5.0
EVIDENCE_BYTES = 4000
NEW_PREFIX = ".new-"
"""Folders of jobs that are being made; one left behind by a crash was never promised to anybody."""


class Supervisor:
    """Claims, starts, follows and ends jobs."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        broker: Broker,
        executor: Executor | None = None,
        *,
        release_device: Callable[[str], None] = lambda _: None,
        on_end: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`release_device` makes others (the chat worker) give up a device before a training takes it; `on_end` is told the id
        of each job that this supervisor saw end, once, and must not wait.
        """
        self._settings = settings
        self._database = database
        name = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.claimant = Claimant(owner=name, machine=boot_id(), folder_id=read_folder_id(settings.data_dir))
        self._broker = broker
        self.executor: Executor = executor or LocalExecutor()
        self._release_device = release_device
        self._on_end = on_end
        self._thread: threading.Thread | None = None
        self._planner_dir = PlannerDir(settings.data_dir / "planner")
        self._stopping = threading.Event()
        self._nudge = threading.Event()
        self._cancel_seen: dict[str, float] = {}
        self._term_sent: dict[str, float] = {}
        self._ended_at: dict[str, float] = {}
        """Jobs that have ended while their process still lets go of the device, and since when."""
        self._renewed_at = 0.0
        self._watchdog = Watchdog(settings.stall_seconds)

    def start(self, *, alone: bool = True) -> None:
        """Find what earlier supervisors left, then work in the background. `alone`: no other one works on this folder."""
        self._stopping.clear()
        self.recover(alone=alone)
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; trainers go on and are found again, at once by another server of this folder."""
        self._stopping.set()
        self._nudge.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            with self._database.writing() as session:
                Leases(session, self.claimant).let_go()

    def nudge(self) -> None:
        """Look at once: something was queued or cancelled."""
        self._nudge.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.tick()
            except Exception:  # one bad job or a full disk must not end the supervision of all others
                log.exception("The supervisor met an error and goes on.")
            self._nudge.wait(TICK_SECONDS)
            self._nudge.clear()

    def tick(self) -> None:
        """Look at every job of this server once, then start what can start."""
        if time.monotonic() - self._renewed_at > RENEW_SECONDS:
            self._renew()
        with self._database.reading() as session:
            held = Leases(session, self.claimant).held()
        for job_id, status in held:
            if status in ACTIVE:
                self._watch(job_id)
            else:
                self._see_out(job_id)
        while not self._stopping.is_set() and self._launch_next():
            pass

    def _renew(self) -> None:
        """Keep the leases of this server, and take those over that another one of this folder lets run out."""
        with self._database.writing() as session:
            leases = Leases(session, self.claimant)
            leases.renew()
            taken = leases.take_over()
        self._renewed_at = time.monotonic()
        for job_id in taken:
            self._reattach(job_id, "its server was not heard of")

    def recover(self, *, alone: bool = True) -> None:
        """Index folders that the database does not know, and find the trainers that still run."""
        folder_id = self.claimant.folder_id
        with self._database.writing() as session:
            Jobs(session).settle(folder_id)
            known = Jobs(session).ids()
        for folder in sorted((self._settings.data_dir / "jobs").iterdir()):
            if folder.name.startswith(NEW_PREFIX):
                if alone:  # else another server may be making it
                    shutil.rmtree(folder)
            elif folder.name not in known and (folder / "job.json").is_file():
                self._adopt(JobDir(folder))
        with self._database.writing() as session:
            leases = Leases(session, self.claimant)
            taken = set(leases.take_over(all_others=alone))
            for row in Jobs(session).unfinished(folder_id):
                job_dir = self._job_dir(row.job_id)
                if not job_dir.job_file.is_file():
                    apply(row, JobFailed(code="internal", key="internal.folder_missing", at=utc_now()))
                    release(row)
                    taken.discard(row.job_id)
                    continue
                mend_events(session, row, job_dir)
                if row.status in ACTIVE and row.slot is None:  # adopted, or of a version that knew no slots
                    leases.hold(row)
                    taken.add(row.job_id)
        self._renewed_at = time.monotonic()
        for job_id in sorted(taken):
            self._reattach(job_id, "the last server ended")

    def _reattach(self, job_id: str, reason: str) -> None:
        alive = self.executor.reattach(self._job_dir(job_id))
        log.info("Job %s is looked after here, as %s; its trainer %s.", job_id, reason, "lives" if alive else "is gone")

    def _adopt(self, job_dir: JobDir) -> None:
        try:
            with self._database.writing() as session:
                adopt(session, job_dir, self.claimant.folder_id)
        except ValueError:
            log.exception("The folder %s holds no readable job and is left alone.", job_dir.path)
        except IntegrityError:
            log.info("Job %s was listed by another server meanwhile.", job_dir.path.name)
        else:
            log.info("Job %s was found in its folder and is listed again.", job_dir.path.name)

    def _job_dir(self, job_id: str) -> JobDir:
        return JobDir(self._settings.data_dir / "jobs" / job_id)

    def _watch(self, job_id: str) -> None:
        """Take in what happened; when the trainer is gone, see how it ended."""
        job_dir = self._job_dir(job_id)
        state = self.executor.poll(job_dir)  # before reading: a dead trainer has written all that it will ever write
        with self._database.writing() as session:
            jobs = Jobs(session)
            row = jobs.lock(job_id)
            if row is None or row.lease_owner != self.claimant.owner:
                return
            taken = ingest(session, row, job_dir)
            status = JobStatus(row.status)
            if isinstance(state, Gone) and status in ACTIVE:
                for event in conclude(
                    status,
                    state,
                    jobs.find_attempt(job_id),
                    lambda: self._evidence(job_dir),
                    retries=count_retries(session, job_id),
                    stalled=self._watchdog.has_stalled(job_id),
                ):
                    job_dir.append(event)
                taken += ingest(session, row, job_dir)
            status = JobStatus(row.status)
            if status.terminal or status in (JobStatus.QUEUED, JobStatus.PAUSED):
                self._close_attempt(jobs, row)
            if status is JobStatus.SUCCEEDED:
                self._record(job_dir)
            if isinstance(state, Gone) and status not in ACTIVE:
                job_dir.clear_leftovers()
                release(row)
        if taken:
            self._broker.wake(job_id)
        if isinstance(state, Gone):
            self._watchdog.forget(job_id)
            if status in (JobStatus.QUEUED, JobStatus.PAUSED):
                self.executor.forget(job_dir)
        else:
            self._press_stalled(job_id, job_dir)
        if status.terminal:
            self._on_end(job_id)
            self._cancel_seen.pop(job_id, None)
            self._term_sent.pop(job_id, None)
        elif status is JobStatus.CANCELLING:
            self._press_cancel(job_id, job_dir)

    def _see_out(self, job_id: str) -> None:
        """See the process of an ended job out: its device is free only when it is gone."""
        job_dir = self._job_dir(job_id)
        since = self._ended_at.setdefault(job_id, time.monotonic())
        if isinstance(self.executor.poll(job_dir), Gone):
            with self._database.writing() as session:
                row = Jobs(session).lock(job_id)
                if row is not None and row.lease_owner == self.claimant.owner and row.status not in ACTIVE:
                    job_dir.clear_leftovers()
                    release(row)
            self.executor.forget(job_dir)
            self._ended_at.pop(job_id, None)
        elif time.monotonic() - since > self._settings.stop_grace_seconds:
            self.executor.stop(job_dir, hard=True)

    def _press_cancel(self, job_id: str, job_dir: JobDir) -> None:
        """The trainer was asked through control/cancel; after the grace time by SIGTERM, then by SIGKILL."""
        now = time.monotonic()
        asked = self._cancel_seen.setdefault(job_id, now)
        if now - asked < self._settings.stop_grace_seconds:
            return
        terminated = self._term_sent.get(job_id)
        if terminated is None:
            self._term_sent[job_id] = now
            self.executor.stop(job_dir, hard=False)
        elif now - terminated > KILL_AFTER_TERM_SECONDS:
            self.executor.stop(job_dir, hard=True)

    def _press_stalled(self, job_id: str, job_dir: JobDir) -> None:
        """Give a trainer up that no longer gets on: its stacks into its log, SIGTERM, SIGKILL."""
        step = self._watchdog.look(job_id, job_dir)
        if step is Step.DUMP:
            log.warning("Job %s has not got on for %.0f s.", job_id, self._settings.stall_seconds)
            self.executor.dump_stacks(job_dir)
        elif step is not None:
            self.executor.stop(job_dir, hard=step is Step.KILL)

    def _evidence(self, job_dir: JobDir) -> str:
        return self.executor.logs(job_dir, EVIDENCE_BYTES)[0].strip()

    def _record(self, job_dir: JobDir) -> None:
        """Remember what the job took beside what was planned; a record that cannot be written ends no job otherwise."""
        try:
            record = make_record(job_dir)
            if record is not None:
                self._planner_dir.append_record(record)
        except (OSError, ValueError):
            log.exception("What job %s took could not be recorded.", job_dir.path.name)

    @staticmethod
    def _close_attempt(jobs: Jobs, row: JobRow) -> None:
        attempt = jobs.find_attempt(row.job_id)
        if attempt is not None and attempt.finished_at is None:
            attempt.finished_at = utc_now()
            attempt.outcome = attempt.outcome or row.error_code or row.status

    def _launch_next(self) -> bool:
        """Claim and start the next queued job whose device is free and not being measured; return whether there was one."""
        with self._database.reading() as session:
            if not Leases(session, self.claimant).anything_waits():
                return False
        try:
            with self._planner_dir.beginning() as calm:
                return calm and self._claim_and_start()
        except IntegrityError:  # another server of this machine took the same device in the same instant
            return False

    def _claim_and_start(self) -> bool:
        with self._database.writing() as session:
            claimed = Leases(session, self.claimant).claim()
            if claimed is None:
                return False
            jobs = Jobs(session)
            row = jobs.lock(claimed)
            if row is None:
                raise RuntimeError(f"job {claimed} was claimed and is not there")
            job_dir = self._job_dir(claimed)
            ingest(session, row, job_dir)
            if row.status != JobStatus.QUEUED:  # cancelled, or begun by a server that died, in words not yet taken in
                if row.status not in ACTIVE:
                    release(row)
                return True
            job_dir.process_file.unlink(missing_ok=True)  # that of an earlier attempt says nothing about this one
            planned = TrainingJob.model_validate_json(row.spec).optimization.micro_batch_size
            last = jobs.find_attempt(row.job_id)
            retry = last is not None and last.outcome == "oom_host"
            micro_batch_size = max(1, last.micro_batch_size // 2) if last is not None and retry else planned
            job_dir.append(StatusChanged(status=JobStatus.STARTING))
            ingest(session, row, job_dir)
            jobs.add_attempt(row, micro_batch_size, oom_kills(), utc_now())
            job_id, device_id = row.job_id, row.device_id
        self._broker.wake(job_id)
        self._release_device(device_id)
        try:
            self.executor.submit(job_dir, micro_batch_size if retry else None)
        except OSError as problem:
            self._fail_start(job_id, job_dir, problem)
        return True

    def _fail_start(self, job_id: str, job_dir: JobDir, problem: OSError) -> None:
        job_dir.append(JobFailed(code="internal", key="internal.trainer_start", params={"reason": str(problem)}))
        with self._database.writing() as session:
            row = Jobs(session).lock(job_id)
            if row is not None:
                ingest(session, row, job_dir)
                self._close_attempt(Jobs(session), row)
                release(row)
        self._broker.wake(job_id)
