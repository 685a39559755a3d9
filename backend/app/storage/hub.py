"""The model hub: which commit a model id means, which of its files are safe, and fetching them.

Only weights in safetensors and plain text or JSON files are ever fetched: a pickle runs code when it is read.
`HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` are read at each call (huggingface_hub itself reads the first and the last
once, at import). Plain HTTP is used for every file, so that a mirror named by `HF_ENDPOINT` sees all the traffic.
Every failure leaves here as HubUnreachable, ModelUnavailable or DiskFull.
"""

import hashlib
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, cast

import httpx2
from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from app.core.errors import AffinageError, DiskFull, HubUnreachable, ModelUnavailable
from app.core.units import MIB, format_bytes
from app.storage.model_files import INDEX, MODEL_ID, PROGRESS_SECONDS, TEXT_FILES, WEIGHTS, Progress

# One way of fetching, the one that the tests exercise; and no calls beside those for the model itself.
constants.HF_HUB_DISABLE_XET = True
constants.HF_HUB_DISABLE_TELEMETRY = True
# The default of 10 MB would show no progress for minutes on a slow line, and lose as much when the line breaks.
constants.DOWNLOAD_CHUNK_SIZE = 256 * 1024

DEFAULT_ENDPOINT = "https://huggingface.co"
CONNECT_SECONDS = 3.0
"""A machine without a network must get its answer quickly."""
LISTING_SECONDS = 10.0
"""Longest wait for the list of files, name resolution included."""
DISK_MARGIN_BYTES = 256 * MIB
"""Room that must stay free after a download."""

T = TypeVar("T")


@dataclass(frozen=True)
class HubFile:
    """One file of a repository. `sha256` is known for large files only."""

    name: str
    size_bytes: int
    sha256: str | None


@dataclass(frozen=True)
class HubListing:
    """The files of one commit that a model needs."""

    commit: str
    files: tuple[HubFile, ...]

    @property
    def total_bytes(self) -> int:
        """Size of all files together."""
        return sum(file.size_bytes for file in self.files)


def hub_endpoint() -> str:
    """Return the address of the hub: `HF_ENDPOINT`, or the public one."""
    return (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


def is_offline() -> bool:
    """Return whether `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE` forbids asking the hub."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in {"1", "ON", "YES", "TRUE"}


def list_files(model_id: str, commit: str | None = None) -> HubListing:
    """Ask the hub for the commit (the newest if None) and for the files that are needed and safe."""
    if not MODEL_ID.fullmatch(model_id) or ".." in model_id:
        raise ModelUnavailable("invalid_id", model_id=model_id)
    if is_offline():
        raise HubUnreachable("offline", model_id=model_id)
    timeout = cast(float, httpx2.Timeout(LISTING_SECONDS, connect=CONNECT_SECONDS))  # a float is all the signature names
    api = HfApi(endpoint=hub_endpoint(), token=_token())

    def ask() -> HubListing:
        info = api.model_info(model_id, revision=commit, files_metadata=True, timeout=timeout)
        if info.gated:  # the list is public even where the files are not
            api.auth_check(model_id)
        if not re.fullmatch(r"[0-9a-f]{40}", info.sha or ""):
            raise HubUnreachable(endpoint=hub_endpoint(), model_id=model_id)
        found = tuple(
            HubFile(sibling.rfilename, sibling.size or 0, sibling.lfs.sha256 if sibling.lfs else None)
            for sibling in info.siblings or []
        )
        return HubListing(cast(str, info.sha), _select(model_id, found))

    return _within(LISTING_SECONDS + CONNECT_SECONDS, model_id, ask)


def fetch(model_id: str, listing: HubListing, folder: Path, on_progress: Progress) -> None:
    """Bring the files of `listing` into `folder`; files that are there already are kept.

    `on_progress` is called in the caller's thread at least once a second; an exception from it stops the download.
    """
    missing = [file for file in listing.files if not _is_here(folder, file)]
    state = _Transfer(done_bytes=listing.total_bytes - sum(file.size_bytes for file in missing))
    folder.mkdir(parents=True, exist_ok=True)
    _require_room(folder, sum(file.size_bytes for file in missing), model_id)
    for orphan in folder.glob(".cache/huggingface/download/*.incomplete"):
        orphan.unlink()  # left by a killed process; huggingface_hub never continues it

    def work() -> None:
        try:
            with _translated(model_id, interrupted=(state, listing.total_bytes)):
                for file in sorted(missing, key=lambda each: each.size_bytes):
                    _fetch_one(model_id, listing.commit, file, folder, state)
        except (AffinageError, OSError, _Stopped) as error:
            state.error = error
        else:
            state.complete = True

    thread = threading.Thread(target=work, name=f"download {model_id}", daemon=True)
    on_progress(state.done_bytes, listing.total_bytes)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(PROGRESS_SECONDS)
            on_progress(min(state.done_bytes, listing.total_bytes), listing.total_bytes)
    finally:
        state.stopped = True
        thread.join(CONNECT_SECONDS)
    if state.error is not None:
        raise state.error
    if not state.complete:
        raise RuntimeError(f"the download of {model_id} ended without a result")
    shutil.rmtree(folder / ".cache", ignore_errors=True)


def _token() -> str | None:
    return os.environ.get("HF_TOKEN") or None


def _select(model_id: str, files: tuple[HubFile, ...]) -> tuple[HubFile, ...]:
    """Keep the files at the root that a model needs; raise ModelUnavailable when essential ones are missing."""
    names = {file.name for file in files}
    if "model.safetensors" in names:
        weights = {"model.safetensors"}
    else:
        weights = {name for name in names if WEIGHTS.fullmatch(name)} if INDEX in names else set()
    if not weights:
        raise ModelUnavailable("no_safetensors", model_id=model_id)
    if "config.json" not in names:
        raise ModelUnavailable("incomplete", model_id=model_id, missing="config.json")

    def wanted(name: str) -> bool:
        if "/" in name or "\\" in name or name.startswith("."):
            return False
        if name.endswith(".index.json"):
            return name == INDEX and "model.safetensors" not in weights
        return name in weights or name in TEXT_FILES or name.endswith((".json", ".model"))

    return tuple(file for file in files if wanted(file.name))


class _Stopped(Exception):
    """The caller gave up; unwinds the downloading thread."""


@dataclass
class _Transfer:
    """What the downloading thread and the reporting thread share."""

    done_bytes: int
    stopped: bool = False
    complete: bool = False
    error: Exception | None = None


def _bar_class(state: _Transfer) -> type:
    """Return a stand-in for tqdm's progress bar that counts into `state` (the interface huggingface_hub calls)."""

    class Bar:
        def __init__(self, **_: object) -> None:
            self.n = 0

        def update(self, count: int) -> None:
            if state.stopped:
                raise _Stopped
            self.n += count
            state.done_bytes += count

        def close(self) -> None:
            pass

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
            self.close()

    return Bar


def _fetch_one(model_id: str, commit: str, file: HubFile, folder: Path, state: _Transfer) -> None:
    before = state.done_bytes
    try:
        hf_hub_download(
            model_id,
            file.name,
            revision=commit,
            local_dir=folder,
            endpoint=hub_endpoint(),
            token=_token(),
            etag_timeout=cast(float, httpx2.Timeout(LISTING_SECONDS, connect=CONNECT_SECONDS)),
            tqdm_class=cast(Any, _bar_class(state)),
        )
    except BaseException:
        state.done_bytes = before  # huggingface_hub deletes what it has of a file that fails
        raise
    path = folder / file.name
    if file.sha256 is not None:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != file.sha256:
            path.unlink()
            raise HubUnreachable("damaged", model_id=model_id, endpoint=hub_endpoint(), file=file.name)
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    state.done_bytes = before + file.size_bytes


def _is_here(folder: Path, file: HubFile) -> bool:
    path = folder / file.name
    return path.is_file() and path.stat().st_size == file.size_bytes


def _require_room(folder: Path, needed_bytes: int, model_id: str) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes + DISK_MARGIN_BYTES:
        raise DiskFull(
            "model", model_id=model_id, needed=format_bytes(needed_bytes), free=format_bytes(free_bytes), folder=str(folder)
        )


def _within(seconds: float, model_id: str, call: Callable[[], T]) -> T:
    """Return `call()`; raise HubUnreachable after `seconds`: a name that does not resolve blocks outside any HTTP timeout."""
    results: list[T] = []
    errors: list[AffinageError] = []

    def work() -> None:
        try:
            with _translated(model_id):
                results.append(call())
        except AffinageError as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="hub listing", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise HubUnreachable(endpoint=hub_endpoint(), model_id=model_id)
    return results[0]


@contextmanager
def _translated(model_id: str, interrupted: tuple[_Transfer, int] | None = None) -> Iterator[None]:
    """Turn the errors of huggingface_hub and httpx2 into ours."""
    where: dict[str, Any] = {"endpoint": hub_endpoint(), "model_id": model_id}
    try:
        yield
    except (GatedRepoError, DisabledRepoError) as error:
        raise ModelUnavailable("gated", **where) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, RemoteEntryNotFoundError, HFValidationError) as error:
        raise ModelUnavailable("unknown", **where) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status == 401:
            raise ModelUnavailable("token", **where) from error
        if status == 403:
            raise ModelUnavailable("gated", **where) from error
        if status == 404 and "json" in error.response.headers.get("content-type", ""):
            raise ModelUnavailable("unknown", **where) from error
        raise HubUnreachable("status", status=status, **where) from error
    except OfflineModeIsEnabled as error:
        raise HubUnreachable("offline", model_id=model_id) from error
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault, not the hub's; huggingface_hub's own OSErrors carry no number
        if interrupted is None:
            raise HubUnreachable(**where) from error
        done, total = format_bytes(interrupted[0].done_bytes), format_bytes(interrupted[1])
        raise HubUnreachable("interrupted", done=done, total=total, **where) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # What answered is not a hub: a login page of a hotel network, a proxy's error page.
        raise HubUnreachable(**where) from error
