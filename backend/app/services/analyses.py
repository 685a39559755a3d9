"""Second looks at data sets, each in a child process, one after the other; their progress can be read by anyone."""

import json
import logging
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Literal

from app.contracts.analysis import Analysis
from app.core.errors import AffinageError, NotFound
from app.storage.dataset_dir import DatasetDir

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AnalysisState:
    """How far the second look at a data set is; sizes in bytes."""

    state: Literal["running", "done", "failed"]
    done_bytes: int = 0
    total_bytes: int = 0
    analysis: Analysis | None = None


class Analyses:
    """The second looks of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._running: dict[str, AnalysisState] = {}
        self._failed: set[tuple[str, str]] = set()
        """Data sets by id and content that could not be looked at; they are not tried again by this process."""
        self._child: subprocess.Popen[str] | None = None
        self._closed = False

    def read(self, folder: DatasetDir) -> AnalysisState:
        """Return what was found, or how far it is; begins where nobody has looked yet. Raise NotFound."""
        if (analysis := folder.find_analysis()) is not None:
            return AnalysisState("done", analysis=analysis)
        info = folder.find_info()
        if info is None:
            raise NotFound("dataset", dataset_id=folder.dataset_id)
        with self._lock:
            if (info.dataset_id, info.content_hash) in self._failed:
                return AnalysisState("failed")
            running = self._running.get(folder.dataset_id)
            if running is None:
                running = AnalysisState("running", total_bytes=folder.rows_file.stat().st_size)
                self._running[folder.dataset_id] = running
                name = f"analysis {folder.dataset_id}"
                threading.Thread(target=self._run, args=(folder, info.content_hash), name=name, daemon=True).start()
            return running

    def get(self, folder: DatasetDir) -> Analysis:
        """Look at a data set now, in this process's own time. Raise AffinageError where that fails."""
        if (analysis := folder.find_analysis()) is None:
            with self._turn:
                self._look(folder)
            analysis = folder.find_analysis()
        if analysis is None:
            raise AffinageError(log="logs/server.log")
        return analysis

    def close(self) -> None:
        """End the child at work; nothing half-made stays."""
        self._closed = True
        if (child := self._child) is not None:
            child.kill()

    def _run(self, folder: DatasetDir, content_hash: str) -> None:
        try:
            with self._turn:
                if not self._closed and folder.find_info() is not None:
                    self._look(folder)
        finally:
            failed = not self._closed and folder.find_info() is not None and folder.find_analysis() is None
            with self._lock:
                del self._running[folder.dataset_id]
                if failed:
                    self._failed.add((folder.dataset_id, content_hash))

    def _look(self, folder: DatasetDir) -> None:
        command = [sys.executable, "-m", "app.datasets.findings.analysing", str(folder.path)]
        # The seed makes the hashes of words, and so what is found, the same in every run.
        # Threads of numpy, one for every core, would count against the limit of the address space and have no work.
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "OPENBLAS_NUM_THREADS": "1"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as child:
            self._child = child
            assert child.stdout is not None and child.stderr is not None
            for line in child.stdout:
                progress = json.loads(line)
                with self._lock:
                    if folder.dataset_id in self._running:
                        self._running[folder.dataset_id] = AnalysisState("running", **progress)
            said = child.stderr.read()
        self._child = None
        if child.returncode and not self._closed:
            log.error("The second look at %s failed (%s): %s", folder.dataset_id, child.returncode, said[-2000:])
