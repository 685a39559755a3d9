"""A small model hub on loopback: the parts of the Hub's protocol that huggingface_hub 2.4 uses to list, fetch and send files.

It can be slow, break off in the middle of a file, hide files behind a licence, redirect old names, and remembers every request.
Real HTTP over a real socket: the code under test does not know the difference.

    with HubServer() as hub:
        hub.add("gpt2", {"config.json": b"{}", "model.safetensors": path})
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
"""

import base64
import hashlib
import io
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlsplit

CHUNK_BYTES = 1 << 16


@dataclass
class Repository:
    """One model of the hub."""

    model_id: str
    commit: str
    files: dict[str, bytes | Path]
    token: str | None = None
    """Who sends this token may read the files."""
    gated: bool = False
    """Anyone sees the list; the files need `token`."""
    private: bool = False
    """Without `token` it looks as if it did not exist."""
    etags: dict[str, str] = field(default_factory=dict)

    def size(self, name: str) -> int:
        content = self.files[name]
        return content.stat().st_size if isinstance(content, Path) else len(content)

    def is_large(self, name: str) -> bool:
        return name.endswith((".safetensors", ".bin"))

    def etag(self, name: str) -> str:
        """SHA-256 for large files, as on the Hub; a git-like SHA-1 for the others."""
        if name not in self.etags:
            content = self.files[name]
            digest = hashlib.sha256() if self.is_large(name) else hashlib.sha1(usedforsecurity=False)
            digest.update(content.read_bytes() if isinstance(content, Path) else content)
            self.etags[name] = digest.hexdigest()
        return self.etags[name]


@dataclass(frozen=True)
class SeenRequest:
    """What a client asked."""

    method: str
    path: str
    authorization: str | None
    range: str | None


class HubServer:
    """Serves repositories on 127.0.0.1 until the `with` block ends."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.renamed: dict[str, str] = {}
        self.requests: list[SeenRequest] = []
        self.bytes_per_second: float | None = None
        self.cuts: dict[str, list[int]] = {}
        """File name -> after how many bytes of each following answer the connection breaks (0: before any byte)."""
        self.answer_everything: tuple[int, str, bytes] | None = None
        """(status, content type, body) for every request: a hub that is down, or no hub at all."""
        self.writer: str | None = None
        """Who sends this token may make repositories and write to them; None = nobody."""
        self.objects: dict[str, bytes] = {}
        """Large files that were sent, by their SHA-256."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, model_id: str, files: Mapping[str, bytes | Path], **access: str | bool | None) -> Repository:
        """Publish a model; its commit follows from its id and file names."""
        commit = hashlib.sha1(f"{model_id}{sorted(files)}".encode(), usedforsecurity=False).hexdigest()
        repository = Repository(model_id, commit, dict(files), **access)  # type: ignore[arg-type]
        self.repositories[model_id] = repository
        return repository

    def __enter__(self) -> "HubServer":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def _handler_for(hub: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._write()

        def do_PUT(self) -> None:
            self._write()

        def log_message(self, format: str, *args: object) -> None:
            pass

        def _write(self) -> None:
            """Make a repository, say how files are to be sent, take large ones, commit."""
            path = unquote(urlsplit(self.path).path)
            body = self._body()
            hub.requests.append(SeenRequest(self.command, path, self.headers.get("Authorization"), None))
            if hub.answer_everything:
                status, content_type, answer = hub.answer_everything
                self._send(status, answer, {"Content-Type": content_type})
            elif path == "/api/validate-yaml":
                self._json({"errors": [], "warnings": []})
            elif match := re.fullmatch(r"/objects/(?P<oid>[0-9a-f]{64})", path):
                hub.objects[match["oid"]] = body
                self._json({})
            elif hub.writer is None or self.headers.get("Authorization") != f"Bearer {hub.writer}":
                self._refuse(403, "Forbidden", "This token may not write here.")
            elif path == "/api/repos/create":
                asked = json.loads(body)
                model_id = f"{asked['organization']}/{asked['name']}"
                private = asked.get("visibility") == "private" or bool(asked.get("private"))
                hub.repositories.setdefault(model_id, Repository(model_id, "0" * 40, {}, token=hub.writer, private=private))
                self._json({"url": f"{hub.endpoint}/{model_id}", "id": model_id, "name": model_id})
            elif re.fullmatch(r"/api/models/.+/preupload/main", path):
                files = [{"path": file["path"], "shouldIgnore": False} for file in json.loads(body)["files"]]
                for file in files:
                    file["uploadMode"] = "lfs" if str(file["path"]).endswith((".safetensors", ".gguf")) else "regular"
                self._json({"files": files})
            elif path.endswith(".git/info/lfs/objects/batch"):
                objects = [
                    {**each, "actions": {"upload": {"href": f"{hub.endpoint}/objects/{each['oid']}"}}}
                    for each in json.loads(body)["objects"]
                ]
                self._json({"transfer": "basic", "objects": objects}, "application/vnd.git-lfs+json")
            elif match := re.fullmatch(r"/api/models/(?P<id>.+)/commit/main", path):
                self._commit(hub.repositories[match["id"]], body)
            else:
                self._refuse(404, "EntryNotFound", "Not found")

        def _commit(self, repository: Repository, body: bytes) -> None:
            for line in body.splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "file":
                    repository.files[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    repository.files[value["path"]] = hub.objects[value["oid"]]
            repository.commit = hashlib.sha1(body, usedforsecurity=False).hexdigest()
            repository.etags.clear()
            url = f"{hub.endpoint}/{repository.model_id}/commit/{repository.commit}"
            self._json({"success": True, "commitUrl": url, "commitOid": repository.commit})

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _json(self, answer: object, content_type: str = "application/json") -> None:
            self._send(200, json.dumps(answer).encode(), {"Content-Type": content_type})

        def _answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append(SeenRequest(self.command, path, self.headers.get("Authorization"), self.headers.get("Range")))
            if hub.answer_everything:
                status, content_type, body = hub.answer_everything
                self._send(status, body, {"Content-Type": content_type})
            elif match := re.fullmatch(r"/api/models/(?P<id>.+?)(?:/revision/(?P<revision>[^/]+)|(?P<check>/auth-check))?", path):
                self._api(match["id"], match["revision"], bool(match["check"]))
            elif match := re.fullmatch(r"/(?P<id>[^/]+(?:/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<file>.+)", path):
                self._file(match["id"], match["revision"], match["file"])
            else:
                self._refuse(404, "EntryNotFound", "Not found")

        def _find(self, model_id: str) -> Repository | None:
            """Return the repository, or answer the request with a redirect or a refusal."""
            if model_id in hub.renamed:
                self._send(307, b"", {"Location": self.path.replace(model_id, hub.renamed[model_id], 1)})
                return None
            repository = hub.repositories.get(model_id)
            allowed = repository and self.headers.get("Authorization") == f"Bearer {repository.token}"
            if repository is None or (repository.private and not allowed):
                # The Hub says 401 to strangers, so that they cannot tell missing from private.
                self._refuse(404 if self.headers.get("Authorization") else 401, "RepoNotFound", "Repository not found")
                return None
            return repository

        def _api(self, model_id: str, revision: str | None, check: bool) -> None:
            repository = self._find(model_id)
            if repository is None:
                return
            if revision not in {None, "main", repository.commit}:
                self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
                return
            if check:
                if not self._is_closed(repository):
                    self._send(200, b"{}", {"Content-Type": "application/json"})
                return
            siblings = []
            for name in repository.files:
                entry: dict[str, object] = {"rfilename": name, "size": repository.size(name), "blobId": "0" * 40}
                if repository.is_large(name):
                    entry["lfs"] = {"size": repository.size(name), "sha256": repository.etag(name), "pointerSize": 134}
                siblings.append(entry)
            body = {
                "_id": "0",
                "id": repository.model_id,
                "modelId": repository.model_id,
                "sha": repository.commit,
                "gated": "manual" if repository.gated else False,
                "private": repository.private,
                "tags": [],
                "downloads": 0,
                "siblings": siblings,
            }
            self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

        def _is_closed(self, repository: Repository) -> bool:
            """Return whether a licence stands before the files; then the refusal has been sent."""
            if not repository.gated or self.headers.get("Authorization") == f"Bearer {repository.token}":
                return False
            known = self.headers.get("Authorization") is not None
            self._refuse(403 if known else 401, "GatedRepo", "Access to this model is restricted.")
            return True

        def _file(self, model_id: str, revision: str, name: str) -> None:
            repository = self._find(model_id)
            if repository is None or self._is_closed(repository):
                return
            if revision not in {"main", repository.commit}:
                self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
                return
            if name not in repository.files:
                self._refuse(404, "EntryNotFound", "Entry not found")
                return
            size = repository.size(name)
            headers = {
                "ETag": f'"{repository.etag(name)}"',
                "X-Repo-Commit": repository.commit,
                "Accept-Ranges": "bytes",
                "Content-Type": "application/octet-stream",
            }
            match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            if match:
                start = int(match[1])
                headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
                self._send(206, repository.files[name], headers, name, start)
            else:
                self._send(200, repository.files[name], headers, name)

        def _refuse(self, status: int, code: str, message: str) -> None:
            headers = {"X-Error-Code": code, "X-Error-Message": message, "Content-Type": "application/json"}
            self._send(status, json.dumps({"error": message}).encode(), headers)

        def _send(self, status: int, body: bytes | Path, headers: dict[str, str], name: str = "", start: int = 0) -> None:
            """Answer with `body` from byte `start` on; a file is never read into memory as a whole."""
            size = (body.stat().st_size if isinstance(body, Path) else len(body)) - start
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(size)}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            cuts = hub.cuts.get(name)
            left = min(size, cuts.pop(0)) if cuts else size
            if left < size:
                self.close_connection = True
            with body.open("rb") if isinstance(body, Path) else io.BytesIO(body) as stream:
                stream.seek(start)
                while chunk := stream.read(min(CHUNK_BYTES, left)):
                    left -= len(chunk)
                    self.wfile.write(chunk)
                    if hub.bytes_per_second:
                        time.sleep(len(chunk) / hub.bytes_per_second)

    return Handler
