"""A hub on this machine: as much of the model hub's protocol as `huggingface_hub` needs to download one file."""

import hashlib
import re
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class StandInHub(ThreadingHTTPServer):
    """Serves `content` as every file of every repository. Point HF_ENDPOINT at `url`."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.sha256 = hashlib.sha256(content).hexdigest()
        """What the hub says the content's checksum is."""
        self.dies_after: int | None = None
        """Bytes of the content after which the hub is gone for good."""
        self.missing = False
        self.requests: list[str] = []
        """Method and path of every request, in order."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests, not something to print."""


class _Handler(BaseHTTPRequestHandler):
    server: StandInHub  # pyright: ignore[reportIncompatibleVariableOverride] # narrower than the base class says

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        self.server.requests.append(f"{self.command} {self.path}")

    def _answer(self, *, with_body: bool) -> None:
        if self.server.missing:
            self._start(404, {"X-Error-Code": "EntryNotFound"}, 0)
        elif self.path.startswith("/storage/"):
            self._send_content(with_body)
        else:
            self._redirect_to_storage()

    def _redirect_to_storage(self) -> None:
        headers = {
            # Another host name: a redirect on the hub itself is a renamed repository, and followed for the headers.
            "Location": f"http://localhost:{self.server.server_address[1]}/storage/{self.server.sha256}",
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{self.server.sha256}"',
            "X-Linked-Size": str(len(self.server.content)),
            "ETag": f'"{COMMIT}"',
        }
        self._start(302, headers, 0)

    def _send_content(self, with_body: bool) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        body = self.server.content[start:]
        headers = {"ETag": f'"{self.server.sha256}"', "Accept-Ranges": "bytes"}
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{len(self.server.content) - 1}/{len(self.server.content)}"
        self._start(206 if wanted else 200, headers, len(body))
        if with_body and self.server.dies_after is not None:
            self.wfile.write(body[: self.server.dies_after])
            self.server.socket.close()
        elif with_body:
            self.wfile.write(body)

    def _start(self, status: int, headers: dict[str, str], length: int) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def stand_in_hub(content: bytes) -> Generator[StandInHub]:
    """A running hub, stopped at the end."""
    hub = StandInHub(content)
    thread = Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
