"""A backup: one tar file of the data folder, taken while trainings write into it.

    backup.json         BackupHeader, the first member
    datasets/ jobs/ planner/ models/added/ (and all of models/, if wanted)
    MANIFEST.sha256     as `sha256sum -c` reads it, the last member

Job folders are the truth (docs/adr/0001), so there is no database inside: restoring lists the folders again. Access
tokens, settings and logs stay out. First all files are gathered as hard links, which takes no room and outlives their
deletion; files that grow are copied, up to their last whole line.
"""

import errno
import hashlib
import io
import os
import shutil
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from app.contracts.frozen import Frozen
from app.core.errors import Conflict, Invalid
from app.storage.job_dir import fsync_folder

HEADER, MANIFEST = "backup.json", "MANIFEST.sha256"
FOLDERS = ("datasets", "jobs", "planner", "models")
GROWING = ("events.jsonl", "trainer.log", "records.jsonl")
"""Appended to in place; every other file is replaced as a whole or never changed."""
LEFT_OUT = ("process.json", "trainer.lock", "encoded", "tokens")
"""What belongs to a process of the moment, and caches."""
BLOCK_BYTES = 1 << 20


class BackupHeader(Frozen):
    """What a backup says about itself."""

    format_version: int = 1
    made_at: str
    affinage: str
    data_dir: str
    """Where the folder lay: jobs name their models by absolute paths."""
    jobs: int
    datasets: int


def gather(data_dir: Path, *, with_models: bool) -> Path:
    """Return a folder inside `tmp/` with the state of this instant; the caller removes it."""
    staging = data_dir / "tmp" / f"backup-{uuid.uuid4().hex[:8]}"
    staging.mkdir(parents=True, mode=0o700)
    for name in ("datasets", "jobs"):
        for folder in sorted((data_dir / name).iterdir()) if (data_dir / name).is_dir() else []:
            if folder.is_dir() and not folder.name.startswith("."):
                _gather_folder(folder, staging / name / folder.name)
    for name in ("planner", "models" if with_models else "models/added"):
        if (data_dir / name).is_dir():
            _gather_folder(data_dir / name, staging / name)
    for job in (staging / "jobs").iterdir() if (staging / "jobs").is_dir() else []:
        if not (job / "job.json").exists():  # deleted meanwhile
            shutil.rmtree(job)
    return staging


def _gather_folder(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    try:
        entries = sorted(os.scandir(source), key=lambda entry: (entry.name not in GROWING, entry.name))
    except FileNotFoundError:
        return
    for entry in entries:  # what grows comes first: a checkpoint that an event names is there, seldom the other way round
        path = source / entry.name
        if entry.name in LEFT_OUT or entry.name.startswith(".") or entry.name.endswith((".tmp", ".part", ".incomplete")):
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                _gather_folder(path, target / entry.name)
            elif entry.name in GROWING:
                _copy_whole_lines(path, target / entry.name)
            elif entry.is_file():
                _link(path.resolve(), target / entry.name)
        except FileNotFoundError:
            continue


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as problem:
        if problem.errno != errno.EXDEV:  # a model's files may be links to another disk
            raise
        shutil.copyfile(source, target)


def _copy_whole_lines(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("wb") as written:
        left = os.fstat(read.fileno()).st_size
        while left and (block := read.read(min(left, BLOCK_BYTES))):
            written.write(block)
            left -= len(block)
        end = kept = written.tell()
    tail = b""
    with target.open("r+b") as file:
        while end and b"\n" not in tail:
            start = max(0, end - BLOCK_BYTES)
            file.seek(start)
            tail, kept, end = file.read(end - start), start, start
        file.truncate(kept + tail.rfind(b"\n") + 1 if tail else 0)


def pack(staging: Path, header: BackupHeader, target: Path) -> int:
    """Write the tar file, complete or not at all; return its size. Raise Conflict when there is such a file."""
    if target.exists():
        raise Conflict("backup_exists", file=target)
    aside = target.with_name(f".{target.name}.part")
    try:
        with aside.open("xb") as file:
            os.fchmod(file.fileno(), 0o600)
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
                _add_bytes(archive, HEADER, header.model_dump_json(indent=2).encode())
                lines = [f"{_add_file(archive, path, name)}  {name}\n" for path, name in _walk(staging)]
                _add_bytes(archive, MANIFEST, "".join(lines).encode())
            file.flush()
            os.fsync(file.fileno())
        aside.rename(target)
        fsync_folder(target.parent)
    finally:
        aside.unlink(missing_ok=True)
    return target.stat().st_size


def _walk(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path, path.relative_to(folder).as_posix()


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o600
    archive.addfile(member, io.BytesIO(content))


def _add_file(archive: tarfile.TarFile, path: Path, name: str) -> str:
    """Add one file and return its SHA-256; it is read once for both."""
    with path.open("rb") as file:
        member = tarfile.TarInfo(name)
        member.size, member.mode = os.fstat(file.fileno()).st_size, 0o600
        member.mtime = int(path.stat().st_mtime)
        hashing = _Hashing(file)
        archive.addfile(member, hashing)
    return hashing.sha.hexdigest()


class _Hashing(io.RawIOBase):
    """A file that hashes what is read of it."""

    def __init__(self, file: io.BufferedReader) -> None:
        super().__init__()
        self._file = file
        self.sha = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self.sha.update(block)
        return block


def unpack(source: Path, staging: Path) -> BackupHeader:
    """Unpack into `staging`, every byte compared with the manifest; return the header.

    Raise Invalid for anything that `pack` does not write: other names, links, a file that is missing, changed or too many.
    """
    sums: dict[str, str] = {}
    header: BackupHeader | None = None
    manifest: str | None = None
    try:
        with tarfile.open(source, mode="r:") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content is None or manifest is not None:
                    raise Invalid("backup_damaged", file=source, member=member.name)
                if member.name == HEADER and header is None:
                    header = BackupHeader.model_validate_json(content.read())
                elif member.name == MANIFEST:
                    manifest = content.read().decode()
                else:
                    sums[member.name] = _write_member(staging, member.name, content, source)
    except (tarfile.TarError, ValueError, EOFError) as problem:
        raise Invalid("backup", file=source, reason=str(problem)) from None
    if header is None or header.format_version != 1:
        raise Invalid("backup", file=source, reason=HEADER)
    promised = {name: digest for digest, _, name in (line.partition("  ") for line in (manifest or "").splitlines())}
    wrong = sorted(name for name in promised.keys() | sums.keys() if promised.get(name) != sums.get(name))
    if manifest is None or wrong:
        raise Invalid("backup_damaged", file=source, member=wrong[0] if wrong else MANIFEST)
    return header


def _write_member(staging: Path, name: str, content: object, source: Path) -> str:
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or len(parts) < 2 or parts[0] not in FOLDERS:
        raise Invalid("backup_damaged", file=source, member=name)
    target = staging.joinpath(*parts)
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    sha = hashlib.sha256()
    with target.open("xb") as file:
        os.fchmod(file.fileno(), 0o600)
        while block := content.read(BLOCK_BYTES):  # type: ignore[attr-defined]
            sha.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return sha.hexdigest()
