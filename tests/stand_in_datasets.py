"""Datasets on a hub on this machine: what `huggingface_hub` needs to make one, commit files to it, and read it."""

import hashlib
import json
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

TOKEN = "hf_token_of_the_tests"  # noqa: S105
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class StandInDataset:
    """A dataset: what its newest commit holds, and all that its history still does. Values are SHA-256 checksums."""

    private: bool = True
    files: dict[str, str] = field(default_factory=dict[str, str])
    history: dict[str, str] = field(default_factory=dict[str, str])
    commits: int = 0


class StandInDatasets(ThreadingHTTPServer):
    """The hub's datasets, to everybody who has `TOKEN`. Point HF_ENDPOINT at `url`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.datasets: dict[str, StandInDataset] = {}
        self.blobs: dict[str, bytes] = {}
        self.failing = False
        """Whether each request ends in an error of the hub's."""
        self.upload_cut = Event()
        """Set by an upload that was cut off; `cuts_uploads` makes them so."""
        self.cuts_uploads = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests, not something to print."""


class _Handler(BaseHTTPRequestHandler):
    server: StandInDatasets  # pyright: ignore[reportIncompatibleVariableOverride] # narrower than the base class says

    def do_GET(self) -> None:
        self._route()

    def do_HEAD(self) -> None:
        self._route()

    def do_POST(self) -> None:
        self._route()

    def do_PUT(self) -> None:
        self._route()

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Nobody reads it."""

    def _route(self) -> None:
        body = self._body()
        path = self.path.partition("?")[0]
        if path.startswith("/blob/"):
            self._blob(path.removeprefix("/blob/"), body)
        elif self.server.failing:
            self._answer({"error": "the hub has a problem"}, 500)
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer({"error": "unauthorized"}, 401)
        elif path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}"
            self.server.datasets[repo] = StandInDataset(asked.get("visibility") == "private" or asked.get("private"))
            self._answer({"url": f"{self.server.url}/datasets/{repo}"})
        elif match := re.fullmatch(r"(?:/api)?/datasets/([\w.-]+/[\w.-]+?)(?:\.git/info/lfs/objects)?(/.*)?", path):
            self._dataset(match[1], match[2] or "", body)
        else:
            self._answer({}, 404)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        return body

    def _dataset(self, repo: str, action: str, body: bytes) -> None:
        dataset = self.server.datasets.get(repo)
        if dataset is None:
            self._answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        elif action in ("", "/revision/main"):
            self._answer({"id": repo, "private": dataset.private, "sha": COMMIT, "siblings": [], "tags": []})
        elif action.startswith("/tree/"):
            self._answer([self._tree_entry(name, sha256) for name, sha256 in dataset.files.items()])
        elif action.startswith("/preupload/"):
            files = [
                {"path": file["path"], "uploadMode": "lfs", "shouldIgnore": False} for file in json.loads(body)["files"]
            ]
            self._answer({"files": files})
        elif action == "/batch":
            self._answer({"objects": [self._upload(each) for each in json.loads(body)["objects"]]})
        elif action.startswith("/commit/"):
            self._commit(repo, dataset, [json.loads(line) for line in body.splitlines()])
        elif action.startswith("/resolve/main/"):
            self._blob(dataset.files[action.removeprefix("/resolve/main/")], b"")
        elif action == "/lfs-files":
            self._answer([_lfs_file(name, sha256) for name, sha256 in dataset.history.items()])
        elif action == "/lfs-files/batch":
            gone = json.loads(body)["deletions"]["sha"]
            dataset.history = {name: sha256 for name, sha256 in dataset.history.items() if sha256 not in gone}
            self._answer({})
        elif action.startswith("/super-squash/"):
            dataset.commits = 1
            self._answer({})
        else:
            self._answer({}, 404)

    def _tree_entry(self, name: str, sha256: str) -> dict[str, Any]:
        size = len(self.server.blobs[sha256])
        lfs = {"oid": sha256, "size": size, "pointerSize": 130}
        return {"type": "file", "path": name, "size": size, "oid": COMMIT, "lfs": lfs}

    def _upload(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {**asked, "actions": {"upload": {"href": f"{self.server.url}/blob/{asked['oid']}"}}}

    def _commit(self, repo: str, dataset: StandInDataset, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "lfsFile":
                dataset.files[value["path"]] = dataset.history[value["path"]] = value["oid"]
            elif line["key"] == "deletedFile":
                del dataset.files[value["path"]]
        dataset.commits += 1
        self._answer({"commitUrl": f"{self.server.url}/datasets/{repo}/commit/{COMMIT}", "commitOid": COMMIT})

    def _blob(self, sha256: str, body: bytes) -> None:
        if self.command == "PUT":
            if self.server.cuts_uploads:
                self.server.upload_cut.set()
                self.connection.close()
                return
            assert hashlib.sha256(body).hexdigest() == sha256
            self.server.blobs[sha256] = body
            self._answer({})
            return
        blob = self.server.blobs[sha256]
        self.send_response(200)
        for name, value in {"Content-Length": str(len(blob)), "ETag": f'"{sha256}"', "X-Repo-Commit": COMMIT}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(blob)

    def _answer(self, content: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _lfs_file(name: str, sha256: str) -> dict[str, Any]:
    pushed = {"pushedAt": "2026-01-01T00:00:00.000Z", "ref": "refs/heads/main", "size": 1}
    return {"fileOid": sha256, "filename": name, "oid": sha256, **pushed}


@contextmanager
def stand_in_datasets() -> Generator[StandInDatasets]:
    """A running hub, stopped at the end."""
    hub = StandInDatasets()
    thread = Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
