"""Gradio's routes: each is known, most are closed, and what a client names in the others is its own."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import pytest
from gradio.routes import App
from starlette.responses import PlainTextResponse

from chat.doors import ROOM_KEPT, Doors, Uploads
from chat.server import Server
from chat.settings import Settings
from tests.browser import ROOT, Chat
from tests.protocol import Visitor

pytestmark = pytest.mark.anyio

NAMES = {"conversation:path": "a", "path:path": "a", "url_path:path": "a", "path_or_url:path": "a"}


@pytest.fixture(scope="module")
def routes() -> set[tuple[str, str]]:
    """Method and path of all that the running app answers, but for its own routes."""

    async def build() -> App:  # Gradio makes event loops of its own where none is running.
        server = Server(Settings(agent="tests.scripted:agent", database=ROOT / "never-opened.db"))
        return App.create_app(server.demo, app_kwargs={"docs_url": None, "redoc_url": None})

    return {(method, path) for path, methods in _paths(anyio.run(build).routes) for method in methods}


def _paths(routes: Any) -> list[tuple[str, set[str]]]:
    found: list[tuple[str, set[str]]] = []
    for route in routes:
        inner = getattr(route, "original_router", None)
        found += _paths(inner.routes) if inner else [(route.path, route.methods)]
    return found


def documented() -> dict[tuple[str, str], str]:
    """The table of SECURITY.md: open or closed by method and path."""
    rows = re.findall(r"^\| (\w+) \| `([^`]+)` \| (open|closed)", (ROOT / "SECURITY.md").read_text(), re.MULTILINE)
    return {(method, path): treatment for method, path, treatment in rows}


def test_each_route_of_the_running_app_is_in_the_table_of_security_md(routes: set[tuple[str, str]]) -> None:
    assert routes == set(documented())


def test_the_table_says_what_is_open_and_what_is_closed(routes: set[tuple[str, str]]) -> None:
    doors = Doors(lambda *_: None, functions=dict, uploads=Uploads(ROOT))  # type: ignore[arg-type, return-value]
    for method, path in routes:
        one = re.sub(r"\{([^}]+)\}", lambda found: NAMES.get(found[1], "1"), path)
        assert ("open" if doors.are_open(method, one) else "closed") == documented()[method, path], path


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/monitoring"),
        ("GET", "/monitoring/summary"),
        ("GET", "/gradio_api/runs"),
        ("GET", "/gradio_api/deep_link?session_hash=x"),
        ("GET", "/gradio_api/proxy=https://example.hf.space"),
        ("GET", "/gradio_api/file/etc/passwd"),
        ("GET", "/gradio_api/heartbeat/x"),
        ("GET", "/gradio_api/stream/x/1/1/playlist.m3u8"),
        ("GET", "/gradio_api/vibe-code"),
        ("GET", "/gradio_api/token"),
        ("GET", "//monitoring"),
        ("GET", "/assets/../monitoring"),
        ("GET", "/%6donitoring"),
        ("GET", "/config/%0a"),
        ("POST", "/gradio_api/cancel"),
        ("POST", "/gradio_api/component_server"),
        ("POST", "/gradio_api/process_recording"),
        ("POST", "/gradio_api/vibe-edit"),
        ("POST", "/gradio_api/stream/x"),
        ("POST", "/gradio_api/call/chat"),
        ("POST", "/gradio_api/api/chat"),
        ("PUT", "/gradio_api/queue/join"),
    ],
)
async def test_a_closed_route_is_not_found(chat: Chat, method: str, path: str) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.request(method, httpx.URL(chat.url + path))
    assert (answer.status_code, answer.text) == (404, "Not found.")


@pytest.fixture
async def visitors(chat: Chat) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Two visitors with cookies, and a stranger without one."""
    clients = [httpx.AsyncClient(base_url=chat.url) for _ in range(3)]
    for client in clients[:2]:
        await client.get("/")
    yield clients
    for client in clients:
        await client.aclose()


class TestUploads:
    async def test_a_stranger_without_a_cookie_uploads_nothing(self, visitors: list[httpx.AsyncClient]) -> None:
        *_, stranger = visitors
        answer = await stranger.post("/gradio_api/upload", files={"files": b"text"})
        assert answer.status_code == 403

    async def test_an_upload_is_served_to_whoever_made_it_and_to_nobody_else(
        self, visitors: list[httpx.AsyncClient]
    ) -> None:
        anna, ben, stranger = visitors
        [path] = (await anna.post("/gradio_api/upload", files={"files": ("a.txt", b"anna's")})).json()
        assert (await anna.get(f"/gradio_api/file={path}")).text == "anna's"
        answer, missing = await ben.get(f"/gradio_api/file={path}"), await ben.get("/gradio_api/file=/tmp/missing")
        assert (answer.status_code, answer.text) == (404, "Not found.") == (missing.status_code, missing.text)
        assert (await stranger.get(f"/gradio_api/file={path}")).status_code == 403

    @pytest.mark.parametrize(
        "path",
        ["/etc/passwd", "{0}/../../../etc/passwd", "http://127.0.0.1/", "{0}%00", "{database}", "{database}-wal"],
    )
    async def test_nothing_but_an_upload_is_served(
        self, visitors: list[httpx.AsyncClient], chat: Chat, path: str
    ) -> None:
        anna, *_ = visitors
        [uploaded] = (await anna.post("/gradio_api/upload", files={"files": ("a.txt", b"x")})).json()
        answer = await anna.get("/gradio_api/file=" + path.format(uploaded, database=chat.database))
        assert (answer.status_code, answer.text) == (404, "Not found.")

    async def test_nothing_is_uploaded_to_a_disk_that_is_nearly_full(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        doors = Doors(PlainTextResponse("taken"), functions=dict, uploads=Uploads(tmp_path / "not there yet"))
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(doors), base_url="http://chat", cookies={"parley_visitor": "A" * 43}
        ) as anna:
            assert (await anna.post("/gradio_api/upload", content=b"x")).text == "taken"
            monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=ROOM_KEPT - 1))  # pyright: ignore
            answer = await anna.post("/gradio_api/upload", content=b"x")
        assert (answer.status_code, answer.text) == (507, "There is no room for files at the moment. Try again later.")

    async def test_somebody_elses_upload_can_not_be_sent(self, chat: Chat, visitors: list[httpx.AsyncClient]) -> None:
        anna, *_ = visitors
        [path] = (await anna.post("/gradio_api/upload", files={"files": ("a.txt", b"anna's")})).json()
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        async with Visitor(chat.url) as ben:
            messages, status = await ben.last("chat", {"text": "echo", "files": [file]}, {"sent": 1})
        assert (messages, status["refused"]) == ([], 1)


async def test_what_is_painted_for_a_session_is_not_seen_by_another_visitor_who_names_it(
    visitors: list[httpx.AsyncClient],
) -> None:
    anna, ben, stranger = visitors
    functions = {each["api_name"]: each["id"] for each in (await anna.get("/config")).json()["dependencies"]}
    body = {"data": ["echo secret", {}], "fn_index": functions["chat"], "session_hash": "abc"}
    (await anna.post("/gradio_api/queue/join", json=body)).raise_for_status()
    for other in (ben, stranger):
        assert re.findall('"session_not_found":(true|false)', await _painted(other, "abc")) == ["true"]
    assert "secret" in await _painted(anna, "abc")


async def _painted(client: httpx.AsyncClient, session: str) -> str:
    lines: list[str] = []
    address = f"/gradio_api/queue/data?session_hash={session}"
    with suppress(httpx.RemoteProtocolError):  # How Gradio says that there is no such session.
        async with client.stream("GET", address, timeout=None) as answer:
            async for line in answer.aiter_lines():
                lines.append(line)  # noqa: PERF401  # what came before the end is kept
    return "".join(lines)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 100_000, '{"a":1}'.encode("utf-16"), b"\xff"])
async def test_a_call_that_is_no_json_object_is_refused(visitors: list[httpx.AsyncClient], body: bytes) -> None:
    anna, *_ = visitors
    answer = await anna.post("/gradio_api/queue/join", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.text) == (400, "The request is no JSON object.")


CALL: dict[str, Any] = {"data": [{}], "session_hash": "x"}


@pytest.mark.parametrize("path", ["/gradio_api/queue/join", "/gradio_api/run/predict", "/gradio_api/run/x/"])
async def test_a_call_of_no_function_is_refused_with_a_sentence(visitors: list[httpx.AsyncClient], path: str) -> None:
    anna, *_ = visitors
    indexes = ("0", "x", 0.0, 1.5, 1e999, -1, 10**6, 10**30, True, None, [0], {"a": 0})
    for call in [CALL, *({**CALL, "fn_index": index} for index in indexes)]:
        answer = await anna.post(path, content=json.dumps(call), headers={"content-type": "application/json"})
        assert (answer.status_code, answer.text) == (
            400,
            "There is no such function: fn_index is none of those in /config.",
        ), call


@pytest.mark.parametrize("path", ["/gradio_api/queue/join", "/gradio_api/run/predict", "/gradio_api/run/stop"])
async def test_a_call_with_more_or_less_than_its_function_takes_is_refused(
    visitors: list[httpx.AsyncClient], path: str
) -> None:
    anna, *_ = visitors
    functions = {each["api_name"]: each["id"] for each in (await anna.get("/config")).json()["dependencies"]}
    wrong: list[dict[str, Any]] = [{}, {"data": None}, {"data": {}}, {"data": []}, {"data": [1, 2]}, {"data": "x"}]
    for call in wrong:
        answer = await anna.post(path, json={"session_hash": "x", "fn_index": functions["stop"], **call})
        assert (answer.status_code, answer.text) == (400, "This function takes a list of 1 in data.")


async def test_the_configuration_tells_nothing_of_the_machine(chat: Chat, visitors: list[httpx.AsyncClient]) -> None:
    for path in ("/", "/config", "/gradio_api/info"):
        text = (await visitors[2].get(path)).text
        for secret in (str(chat.database.parent), str(ROOT), "/tmp/"):  # noqa: S108
            assert json.dumps(secret)[1:-1] not in text
