"""Gradio's doors: which of its routes are open, and to whom.

Open is what the page and `gradio_client` need; all others are closed, also those that a newer Gradio adds. What Gradio
knows by a name that a client chooses (the session hash of its queue, the id of an upload) gets the owner put before it,
so that somebody else's is not refused but doesn't exist. Uploads are told apart by who made them.

SECURITY.md lists every route.
"""

import hashlib
import json
import re
import shutil
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import parse_qsl, urlencode

from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat.edge import path_of
from chat.identity import Owner, owner_of

API = "/gradio_api"
JOIN, DATA, RUN = f"{API}/queue/join", f"{API}/queue/data", f"{API}/run/"
PAGES = ("/", "/config", "/config/")
UPLOAD, PROGRESS, FILE = f"{API}/upload", f"{API}/upload_progress", f"{API}/file="

OPEN: tuple[tuple[str, str], ...] = (
    # The chat's own routes check for themselves.
    ("*", "/parley/(?s:.+)"),
    ("*", "/login(/huggingface|/callback)?"),
    ("POST", "/logout"),
    # The page and what it is made of: the same for everybody.
    ("GET", "/"),
    ("GET", "/config/?"),
    ("GET", "/(static|assets)/.+"),
    ("GET", rf"({API})?/theme\.css"),
    ("GET", r"/favicon\.ico|/robots\.txt|/manifest\.json|/pwa_icon(/[0-9]+)?"),
    ("GET", rf"{API}/(app_id|startup-events)/?"),
    # What programs read: which calls there are.
    ("GET", rf"{API}/(info/?|openapi\.json)"),
    # Calls: each checks its owner itself.
    ("POST", JOIN),
    ("GET", DATA),
    ("POST", rf"{RUN}\w+/?"),
    # Uploads, for those who have a cookie.
    ("POST", UPLOAD),
    ("GET", PROGRESS),
    ("GET", rf"{re.escape(FILE)}.+"),
)
"""The open routes: a method (`GET` also stands for `HEAD`) and a pattern of the path from the page's root on."""

RELOADED = ("GET", rf"{API}/dev/reload")
"""Open as well while `gradio app.py` serves: how the page learns that the code was changed."""

UPLOADS_KNOWN = 20_000
"""Uploads whose owners are kept in mind, the oldest forgotten first. A forgotten one has to be attached again."""

ROOM_KEPT = 500_000_000
"""Bytes of the disk that uploads leave free: whoever fills it would end the conversations that are on it."""

_HASH = re.compile(r"[\w-]{1,100}", re.ASCII)


class Uploads:
    """Who uploaded what, since the server was started. Uploads are short-lived: what was sent is in the database.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._owned: OrderedDict[tuple[Owner, str], None] = OrderedDict()

    def add(self, owner: Owner, path: str) -> None:
        """Note that `owner` uploaded the file at `path`. The same file, uploaded by another, is at the same path."""
        self._owned[owner, path] = None
        self._owned.move_to_end((owner, path))
        while len(self._owned) > UPLOADS_KNOWN:
            self._owned.popitem(last=False)

    def have_room(self) -> bool:
        """Whether the disk has room for another one."""
        there = next(path for path in (self._folder, *self._folder.parents) if path.exists())
        return shutil.disk_usage(there).free >= ROOM_KEPT

    def has(self, owner: Owner, path: str) -> bool:
        """Whether `owner` uploaded the file at `path`."""
        return (owner, path) in self._owned


class Function(Protocol):
    """What is asked of one of Gradio's functions."""

    api_name: str | None
    inputs: Any


class Doors:
    """ASGI middleware in front of Gradio's routes.

    Args:
        app: Gradio's app.
        functions: Tells its functions, by their index.
        uploads: Where it is noted who uploaded what.
        reloads: Whether the page is told when the code was changed.
    """

    def __init__(
        self, app: ASGIApp, *, functions: Callable[[], Mapping[int, Function]], uploads: Uploads, reloads: bool = False
    ) -> None:
        self.app = app
        self._functions = functions
        self._uploads = uploads
        patterns = [*OPEN, RELOADED] if reloads else OPEN
        self._open = [(method, re.compile(pattern)) for method, pattern in patterns]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path, owner = path_of(scope), owner_of(HTTPConnection(scope))
        if not self.are_open(scope["method"], path):
            await PlainTextResponse("Not found.", 404)(scope, receive, send)
        elif path == JOIN or path.startswith(RUN):
            await self._call(owner, scope, receive, send)
        elif path == DATA:
            await self.app(_with_query(scope, session_hash=_own(owner, scope, "session_hash")), receive, send)
        elif path in (UPLOAD, PROGRESS) or path.startswith(FILE):
            await self._file(path, owner, scope, receive, send)
        elif path in PAGES:  # What a page was like for somebody is not kept, and so not shown.
            await self.app(_with_query(scope, deep_link=None), receive, send)
        else:
            await self.app(scope, receive, send)

    def are_open(self, method: str, path: str) -> bool:
        """Whether a request can get through at all."""
        method = "GET" if method == "HEAD" else method
        return any(known in (method, "*") and pattern.fullmatch(path) for known, pattern in self._open)

    async def _call(self, owner: Owner | None, scope: Scope, receive: Receive, send: Send) -> None:
        """Call a function that there is: under a session hash that nobody else can name."""
        body = await _body(receive)
        if body is None:
            return
        try:
            sent: Any = json.loads(body.decode())
        except (ValueError, RecursionError):
            sent = None
        if not isinstance(sent, dict):
            await PlainTextResponse("The request is no JSON object.", 400)(scope, receive, send)
            return
        call = cast("dict[str, object]", sent)
        if fault := self._fault(path_of(scope), call):
            await PlainTextResponse(fault, 400)(scope, receive, send)
            return
        if call.get("session_hash") is not None:
            call["session_hash"] = _owned(owner, call["session_hash"])
        await self.app(scope, _replay(json.dumps(call).encode(), receive), send)

    def _fault(self, path: str, call: Mapping[str, object]) -> str | None:
        """Why a call can't be made: Gradio answers it with an error of the server's."""
        functions, index, data = self._functions(), call.get("fn_index"), call.get("data")
        if index is None and path != JOIN:
            name = path.removeprefix(RUN).removesuffix("/")
            index = next((index for index, function in functions.items() if function.api_name == name), None)
        if type(index) is not int or index not in functions:  # True is an int, too.
            return "There is no such function: fn_index is none of those in /config."
        count = len(functions[index].inputs)
        if not isinstance(data, list) or len(cast("list[object]", data)) != count:
            return f"This function takes a list of {count} in data."
        return None

    async def _file(self, path: str, owner: Owner | None, scope: Scope, receive: Receive, send: Send) -> None:
        if owner is None:
            await PlainTextResponse("Open the chat's page first: only its visitors have files.", 403)(
                scope, receive, send
            )
        elif path == UPLOAD and not self._uploads.have_room():
            await PlainTextResponse("There is no room for files at the moment. Try again later.", 507)(
                scope, receive, send
            )
        elif path == UPLOAD:
            scope = _with_query(scope, upload_id=_own(owner, scope, "upload_id"))
            await self.app(scope, receive, self._noting(owner, send))
        elif path == PROGRESS:
            await self.app(_with_query(scope, upload_id=_own(owner, scope, "upload_id")), receive, send)
        elif self._uploads.has(owner, path.removeprefix(FILE)):
            await self.app(scope, receive, send)
        else:
            await PlainTextResponse("Not found.", 404)(scope, receive, send)

    def _noting(self, owner: Owner, send: Send) -> Send:
        """Note the uploads that an answer names before the page learns of them."""
        answer = b""

        async def send_noted(message: Message) -> None:
            nonlocal answer
            answer += message.get("body", b"")
            if message["type"] == "http.response.body" and not message.get("more_body"):
                for path in _paths(answer):
                    self._uploads.add(owner, path)
            await send(message)

        return send_noted


def _paths(answer: bytes) -> list[str]:
    try:
        paths: Any = json.loads(answer)
    except ValueError:
        return []
    return [path for path in cast("list[object]", paths) if isinstance(path, str)] if isinstance(paths, list) else []


def _owned(owner: Owner | None, name: object) -> str:
    """What a client calls by a name of its own, as only this owner can call it."""
    if not isinstance(name, str) or not _HASH.fullmatch(name):
        name = ""  # What Gradio then says of it tells nothing.
    return f"{hashlib.sha256((owner or '').encode()).hexdigest()[:32]}-{name}"


def _own(owner: Owner | None, scope: Scope, parameter: str) -> str | None:
    name = dict(_query(scope)).get(parameter)
    return None if name is None else _owned(owner, name)


def _query(scope: Scope) -> list[tuple[str, str]]:
    return parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)


def _with_query(scope: Scope, **changes: str | None) -> Scope:
    """The same request with some parameters of its query replaced, or left out."""
    kept = [(name, value) for name, value in _query(scope) if name not in changes]
    added = [(name, value) for name, value in changes.items() if value is not None]
    return {**scope, "query_string": urlencode([*kept, *added]).encode()}


async def _body(receive: Receive) -> bytes | None:
    """The whole body of a request; `None` when the client has gone."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    read = False

    async def replay() -> Message:
        nonlocal read
        if read:
            return await receive()
        read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
