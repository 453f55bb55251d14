"""A small Hub: the endpoints that huggingface_hub calls to publish and to load, over HTTP, in memory."""

import base64
import hashlib
import json
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_test"


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repo:
    """Commits, oldest first: an id, a message, and all files."""

    private: bool
    commits: list[tuple[str, str, dict[str, bytes]]]

    @property
    def head(self) -> str:
        return self.commits[-1][0]

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1][2]

    def add(self, message: str, changes: dict[str, bytes]) -> str:
        files = {**self.files, **changes} if self.commits else changes
        self.commits.append((f"{len(self.commits):040x}", message, files))
        return self.head


@dataclass
class Hub:
    """What the server holds and was asked; `namespace` is where the token may write.

    The next action of a name in `failing` is refused, in `cutting` gets no answer, in `losing` is done and gets none.
    """

    url: str = ""
    namespace: str = "org"
    repos: dict[str, Repo] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)
    cutting: set[str] = field(default_factory=set)
    losing: set[str] = field(default_factory=set)


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self._answer_read(unquote(urlsplit(self.path).path).strip("/").split("/"))

    def do_POST(self):
        body = self._read()
        path = unquote(urlsplit(self.path).path).strip("/")
        self.hub.asked.append(path)
        last = path.split("/")[-2]
        if last in self.hub.failing:
            self.hub.failing.discard(last)
            return self._send(507, {"error": "out of space"})
        if last in self.hub.cutting:
            self.hub.cutting.discard(last)
            return self._hang_up()
        if path == "api/validate-yaml":
            return self._send(200, {"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._send(401, {"error": "Invalid username or password."})
        if path == "api/repos/create":
            return self._create(json.loads(body))
        _, kind, namespace, name, action, _ = path.split("/")
        if namespace != self.hub.namespace:
            return self._send(403, {"error": "You don't have the rights."})
        repo = self.hub.repos[f"{kind}/{namespace}/{name}"]
        return (self._preupload if action == "preupload" else self._commit)(repo, body)

    def _hang_up(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _create(self, wanted: dict):
        kind = f"{wanted.get('type') or 'model'}s"
        name = f"{wanted['organization']}/{wanted['name']}"
        if wanted["organization"] != self.hub.namespace:
            return self._send(403, {"error": "You don't have the rights to create a model under this namespace"})
        url = f"{self.hub.url}/{name}" if kind == "models" else f"{self.hub.url}/{kind}/{name}"
        if f"{kind}/{name}" in self.hub.repos:
            return self._send(409, {"error": "You already created this repo", "url": url})
        repo = self.hub.repos[f"{kind}/{name}"] = Repo(wanted.get("visibility") == "private", [])
        repo.add("initial commit", {".gitattributes": b""})
        return self._send(200, {"url": url})

    def _preupload(self, repo: Repo, body: bytes):
        files = [
            {
                "path": file["path"],
                "uploadMode": "regular",
                "shouldIgnore": False,
                "oid": git_hash(repo.files[file["path"]]) if file["path"] in repo.files else None,
            }
            for file in json.loads(body)["files"]
        ]
        return self._send(200, {"files": files})

    def _commit(self, repo: Repo, body: bytes):
        head, *changes = [json.loads(line) for line in body.splitlines()]
        if head["value"].get("parentCommit") != repo.head:
            return self._send(412, {"error": "A commit has happened since. Please refresh and try again."})
        added = {one["value"]["path"]: base64.b64decode(one["value"]["content"]) for one in changes}
        oid = repo.add(head["value"]["summary"], added)
        if "commit" in self.hub.losing:
            self.hub.losing.discard("commit")
            return self._hang_up()
        name = self.path.removeprefix("/api/").removeprefix("models/").partition("/commit/")[0]
        return self._send(200, {"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid, "success": True})

    def _answer_read(self, parts: list[str]):
        api = parts[0] == "api"
        kind = parts[1] if api else "datasets" if parts[0] == "datasets" else "models"
        start = 2 if api else int(kind == "datasets")
        name, rest = "/".join(parts[start : start + 2]), parts[start + 2 :]
        repo = self.hub.repos.get(f"{kind}/{name}")
        if repo is None or (repo.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"):
            return self._send(401, {"error": "Repository not found"}, code="RepoNotFound")
        if not api:
            return self._resolve(repo, "/".join(rest[2:]))
        if rest[:1] == ["tree"]:
            return self._tree(repo, "/".join(rest[2:]))
        siblings = [{"rfilename": path, "size": len(content)} for path, content in repo.files.items()]
        return self._send(
            200, {"id": name, "sha": repo.head, "private": repo.private, "tags": [], "siblings": siblings}
        )

    def _resolve(self, repo: Repo, path: str):
        if path not in repo.files:
            return self._send(404, {"error": "Entry not found"}, code="EntryNotFound", commit=repo.head)
        return self._send(200, repo.files[path], commit=repo.head)

    def _tree(self, repo: Repo, folder: str):
        inside = {
            path: content for path, content in repo.files.items() if path.startswith(f"{folder}/" * bool(folder))
        }
        if not inside:
            return self._send(404, {"error": f"{folder} does not exist"}, code="EntryNotFound")
        files = [{"type": "file", "path": p, "size": len(c), "oid": git_hash(c)} for p, c in inside.items()]
        return self._send(200, files)

    def _send(self, status: int, content: object, code: str = "", commit: str = ""):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        headers = {"Content-Length": str(len(body)), "X-Error-Code": code, "X-Repo-Commit": commit}
        if commit and status == 200:
            headers["ETag"] = f'"{git_hash(body)}"'
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def serve():
    """Run a Hub of its own in a thread."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OwnHandler", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    # a server notices that it is shut down at its next poll
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
