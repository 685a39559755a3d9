"""Who may enter: access tokens, the browsers that signed in, and one-time launch codes; hashes only.

access/credentials.json     (0600, its folder 0700) one record each; replaced whole, under a lock
A secret is `<prefix><id>_<256 random bits>`, shown once. What is kept is its SHA-256: a secret of that size cannot be
guessed, so a slow hash would protect nothing. The file is not part of backups: a restored copy needs new tokens.
"""

import fcntl
import hashlib
import hmac
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from app.contracts.frozen import Frozen
from app.storage.job_dir import utc_now, write_atomically

Kind = Literal["token", "session", "code"]
PREFIXES: dict[Kind, str] = {"token": "afn_", "session": "afs_", "code": "afc_"}
"""What a secret begins with, so that scanners of repositories find one that was committed by mistake."""
ID_BYTES = 8
SECRET_BYTES = 32
FOLDER = "access"


class Credential(Frozen):
    """One secret without the secret."""

    id: str
    kind: Kind
    name: str
    sha256: str
    created_at: str
    expires_at: str | None
    """None = until it is revoked."""
    parent: str | None = None
    """The token by which a browser signed in: revoking that ends the session too."""


class Credentials(Frozen):
    """The whole file."""

    records: list[Credential] = []


class AccessFile:
    """Reads and changes `access/credentials.json`; several processes may at once."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / FOLDER
        self.path = self.folder / "credentials.json"
        self._read: tuple[tuple[int, int, int], dict[str, Credential]] | None = None
        self._guard = threading.Lock()

    def records(self) -> dict[str, Credential]:
        """Return every record by id; read again whenever another process has replaced the file."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return {}
        state = (status.st_ino, status.st_mtime_ns, status.st_size)
        with self._guard:
            if self._read is None or self._read[0] != state:
                found = Credentials.model_validate_json(self.path.read_bytes()).records
                self._read = (state, {record.id: record for record in found})
            return self._read[1]

    def find(self, kind: Kind, secret: str) -> Credential | None:
        """Return the record of a secret of this kind that has not expired, or None. Compared in constant time."""
        return _match(self.records(), kind, secret)

    def add(self, kind: Kind, name: str, *, lasts: timedelta | None = None, parent: str | None = None) -> tuple[Credential, str]:
        """Make a secret; return its record and the secret, which nobody can ever see again."""
        record, secret = _make(kind, name, lasts, parent)
        with self._changing() as records:
            records.append(record)
        return record, secret

    def exchange(self, code: str, *, lasts: timedelta) -> tuple[Credential, str] | None:
        """Turn a launch code into a session; None when it is unknown, old, or was used: of two who try, one gets in."""
        with self._changing() as records:
            found = _match({record.id: record for record in records}, "code", code)
            if found is None:
                return None
            records.remove(found)
            session, secret = _make("session", found.name, lasts, None)
            records.append(session)
        return session, secret

    def revoke(self, credential_id: str) -> bool:
        """Remove a record and the sessions that came from it; return whether there was one."""
        with self._changing() as records:
            kept = [record for record in records if credential_id not in (record.id, record.parent)]
            found = len(kept) < len(records)
            records[:] = kept
        return found

    @contextmanager
    def _changing(self) -> Iterator[list[Credential]]:
        """Give the records to change; what has expired is dropped when they are written."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            records = list(Credentials.model_validate_json(self.path.read_bytes()).records) if self.path.exists() else []
            yield records
            write_atomically(self.path, Credentials(records=[record for record in records if is_valid(record)]).model_dump_json())
            self.path.chmod(0o600)
        finally:
            os.close(descriptor)


def is_valid(record: Credential, now: Callable[[], str] = utc_now) -> bool:
    """Whether a record has not expired. ISO 8601 in UTC sorts as text."""
    return record.expires_at is None or record.expires_at > now()


def _match(records: dict[str, Credential], kind: Kind, secret: str) -> Credential | None:
    prefix = PREFIXES[kind]
    if not secret.startswith(prefix) or len(secret) > 200:
        return None
    record = records.get(secret.removeprefix(prefix).partition("_")[0])
    expected = record.sha256 if record is not None else "0" * 64
    same = hmac.compare_digest(_hash(secret), expected)
    return record if same and record is not None and record.kind == kind and is_valid(record) else None


def _make(kind: Kind, name: str, lasts: timedelta | None, parent: str | None) -> tuple[Credential, str]:
    credential_id = secrets.token_hex(ID_BYTES)
    secret = f"{PREFIXES[kind]}{credential_id}_{secrets.token_urlsafe(SECRET_BYTES)}"
    expires_at = None
    if lasts is not None:
        expires_at = (datetime.now(UTC) + lasts).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    record = Credential(
        id=credential_id,
        kind=kind,
        name=name,
        sha256=_hash(secret),
        created_at=utc_now(),
        expires_at=expires_at,
        parent=parent,
    )
    return record, secret


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
