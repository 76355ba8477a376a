"""The chat for programs, over HTTP: the examples of docs/api.md, and what others, late and careless programs get."""

import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from anyio import to_thread
from gradio_client import Client
from gradio_client.exceptions import AuthenticationError
from inline_snapshot import snapshot

from chat import accounts
from tests.browser import ROOT, Chat

pytestmark = pytest.mark.anyio

DOCUMENT = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
EVENTS = {"accept": "text/event-stream"}


@asynccontextmanager
async def program(chat: Chat) -> AsyncIterator[httpx.AsyncClient]:
    """A program that nobody knows yet, with a cookie."""
    async with httpx.AsyncClient(base_url=f"{chat.url}/parley/api", timeout=60) as http:
        (await http.get("/about")).raise_for_status()
        yield http


@pytest.fixture
async def ann(chat: Chat) -> AsyncIterator[httpx.AsyncClient]:
    async with program(chat) as http:
        yield http


@pytest.fixture
async def ben(chat: Chat) -> AsyncIterator[httpx.AsyncClient]:
    async with program(chat) as http:
        yield http


async def say(http: httpx.AsyncClient, text: str, address: str = "/conversations") -> dict[str, Any]:
    answer = await http.post(address, json={"text": text})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def events_of(response: httpx.Response) -> list[tuple[str, Any]]:
    events: list[tuple[str, Any]] = []
    name = ""
    async for line in response.aiter_lines():
        kind, _, value = line.partition(": ")
        if kind == "event":
            name = value
        elif kind == "data":
            events.append((name, json.loads(value)))
    return events


def test_the_examples_of_the_documentation_do_what_their_comments_say(
    chat: Chat, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    known: dict[str, Any] = {}
    for example in examples:
        exec(example.replace("http://127.0.0.1:7860", chat.url), known)  # noqa: S102  # our own documentation
    known["chat"].close()
    expected = re.findall(r"print\(.*\)  # (.*)$", "\n".join(examples), re.MULTILINE)
    assert capsys.readouterr().out.splitlines() == expected


class TestReading:
    async def test_a_conversation_is_read_in_parts_without_a_gap_or_a_repetition(self, ann: httpx.AsyncClient) -> None:
        address = f"/conversations/{(await say(ann, 'echo 1'))['conversation']}"
        for number in range(2, 6):
            await say(ann, f"echo {number}", f"{address}/messages")
        texts: list[str] = []
        before: dict[str, int] = {}
        while True:
            part = (await ann.get(address, params={"limit": 3, **before})).json()
            texts = [message["text"] for message in part["messages"]] + texts
            if part["earlier"] is None:
                break
            before = {"before": part["earlier"]}
        assert texts == [text for number in range(1, 6) for text in (f"echo {number}", str(number))]

    async def test_a_reply_that_failed_says_so_with_what_it_had_and_without_the_agents_secrets(
        self, ann: httpx.AsyncClient
    ) -> None:
        reply = await say(ann, "fail")
        message = reply["message"]
        assert (reply["state"], message["text"].strip(), message["note"]) == snapshot(
            ("failed", "This will", "The agent ran into a problem (RuntimeError).")
        )
        conversation = (await ann.get(f"/conversations/{reply['conversation']}")).json()
        assert conversation["messages"][-1] == message


async def upload(http: httpx.AsyncClient, chat: Chat, name: str, content: bytes) -> dict[str, str]:
    [path] = (await http.post(f"{chat.url}/gradio_api/upload", files={"files": (name, content)})).json()
    return {"path": path, "orig_name": name}


class TestFiles:
    async def test_what_was_uploaded_is_sent_stored_and_downloaded_by_its_owner(
        self, chat: Chat, ann: httpx.AsyncClient, ben: httpx.AsyncClient
    ) -> None:
        file = await upload(ann, chat, "page.pdf", b"%PDF-1.4 a walrus")
        answer = (await ann.post("/conversations", json={"text": "", "files": [file]})).json()
        conversation = (await ann.get(f"/conversations/{answer['conversation']}")).json()
        assert conversation["title"] == "page.pdf"
        [shown] = conversation["messages"][0]["files"]
        assert (shown["name"], shown["media_type"], shown["size"]) == ("page.pdf", "application/pdf", 17)
        assert (await ann.get(f"{chat.url}{shown['address']}")).content == b"%PDF-1.4 a walrus"
        assert (await ben.get(f"{chat.url}{shown['address']}")).status_code == 404

    async def test_nothing_but_an_upload_of_ones_own_is_sent(
        self, chat: Chat, ann: httpx.AsyncClient, ben: httpx.AsyncClient
    ) -> None:
        hers = await upload(ann, chat, "page.pdf", b"%PDF-1.4 a walrus")
        for path in (hers["path"], "/etc/passwd", str(chat.database), "http://127.0.0.1/", "", "\0"):
            answer = await ben.post("/conversations", json={"text": "files", "files": [{**hers, "path": path}]})
            assert (answer.status_code, answer.json()["error"]) == (
                422,
                "“page.pdf” is no longer here. Remove it and attach it again.",
            )
        odd = await upload(ben, chat, "odd.bin", bytes(range(256)))
        for files in ([odd], [hers] * 11):
            assert (await ben.post("/conversations", json={"text": "files", "files": files})).status_code == 422
        assert (await ben.get("/conversations")).json()["conversations"] == []


class TestStreaming:
    async def test_the_events_of_a_reply_add_up_to_it(self, ann: httpx.AsyncClient) -> None:
        async with ann.stream("POST", "/conversations", json={"text": "tool"}, headers=EVENTS) as response:
            events = await events_of(response)
        text = ""
        for name, data in events:
            if name == "text":
                text = text[: data["at"]] + data["text"]
        assert events[0][0] == "started"
        assert {name for name, _ in events[1:-1]} == {"text", "step"}
        assert events[-1][0] == "done"
        assert events[-1][1]["message"]["text"] == text

    async def test_a_reply_goes_on_without_its_reader_and_can_be_followed_again_and_stopped(
        self, ann: httpx.AsyncClient
    ) -> None:
        async with ann.stream("POST", "/conversations", json={"text": "hang"}, headers=EVENTS) as response:
            lines = response.aiter_lines()
            while not (line := await anext(lines)).startswith("data: "):
                pass
        address = f"/conversations/{json.loads(line.removeprefix('data: '))['conversation']}"
        assert (await ann.post(f"{address}/messages", json={"text": "me too"})).status_code == 409
        assert (await ann.get(address)).json()["messages"][-1]["state"] == "writing"
        async with ann.stream("GET", f"{address}/reply", headers=EVENTS) as response:
            assert (await ann.post(f"{address}/stop")).json() == {"stopped": True}
            name, data = (await events_of(response))[-1]
        assert (name, data["state"], data["message"]["text"]) == ("done", "stopped", "Waiting ")
        assert (await ann.get(f"{address}/reply")).json() == data


class TestOwners:
    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("GET", "", None),
            ("PATCH", "", {"title": "Mine"}),
            ("PATCH", "", {"place": "archived"}),
            ("PATCH", "", {"deleted": True}),
            ("PATCH", "", {"deleted": False}),
            ("DELETE", "", None),
            ("POST", "/messages", {"text": "echo mine"}),
            ("GET", "/reply", None),
            ("POST", "/decisions", {"token": "x", "decisions": []}),
            ("POST", "/stop", None),
            ("GET", "/export", None),
        ],
    )
    async def test_somebody_elses_conversation_is_answered_as_a_missing_one(
        self, ann: httpx.AsyncClient, ben: httpx.AsyncClient, method: str, path: str, body: Any
    ) -> None:
        anns = (await say(ann, "approve"))["conversation"]
        before = (await ann.get(f"/conversations/{anns}")).json()
        answers: list[tuple[int, str]] = []
        for conversation in (anns, anns[:-4] + "0000", "nonsense"):
            answer = await ben.request(method, f"/conversations/{conversation}{path}", json=body)
            answers.append((answer.status_code, answer.text))
        assert answers == [(404, '{"error":"This conversation does not exist."}')] * 3
        assert (await ann.get(f"/conversations/{anns}")).json() == before
        assert (await ben.get("/conversations")).json() == {"conversations": [], "more": None}

    async def test_a_program_without_a_cookie_is_told_how_to_get_one(self, chat: Chat) -> None:
        async with httpx.AsyncClient(base_url=f"{chat.url}/parley/api") as http:
            for answer in (await http.get("/conversations"), await http.post("/conversations", json={"text": "hi"})):
                assert answer.status_code == 403
                assert answer.json()["error"].startswith("Ask for /parley/api/about first and keep the cookie")

    async def test_a_page_of_another_site_can_not_send_in_somebodys_name(self, ann: httpx.AsyncClient) -> None:
        answer = await ann.post("/conversations", json={"text": "echo hi"}, headers={"origin": "https://evil.example"})
        assert answer.status_code == 403
        assert (await ann.get("/conversations")).json()["conversations"] == []

    async def test_with_accounts_a_program_signs_in_first(self, start_chat: Callable[..., Chat], tmp_path: Any) -> None:
        accounts.add(tmp_path / "people", "bot", "long enough")
        chat = start_chat("--agent", "tests.scripted:agent", CHAT_AUTH=str(tmp_path / "people"))
        async with httpx.AsyncClient(base_url=f"{chat.url}/parley/api", timeout=60) as http:
            assert (await http.get("/about")).status_code == 401
            assert (await http.post("/conversations", json={"text": "hi"})).status_code == 401
            with pytest.raises(AuthenticationError, match="Please login"):
                await to_thread.run_sync(Client, chat.url)
            await http.post(f"{chat.url}/login", data={"name": "bot", "password": "long enough"})
            conversation = (await say(http, "echo hi"))["conversation"]
            kept = {"cookies": dict(http.cookies)}
        client = await to_thread.run_sync(lambda: Client(chat.url, httpx_kwargs=kept, verbose=False))
        listing = await to_thread.run_sync(lambda: client.predict(api_name="/list"))
        assert [each["id"] for each in listing["conversations"]] == [conversation]


class TestBadInput:
    async def test_a_method_that_a_path_has_not_is_refused_with_those_that_it_has(self, ann: httpx.AsyncClient) -> None:
        answer = await ann.request("OPTIONS", "/conversations/x")
        assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET, PATCH")

    def test_hundreds_of_made_up_requests_are_answered_as_the_description_says(
        self, chat: Chat, tmp_path: Path
    ) -> None:
        [token] = httpx.get(f"{chat.url}/parley/api/about").cookies.values()
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{chat.url}/parley/api/openapi.json"]
        who = f"--header=cookie: parley_visitor={token}"
        how = ["--max-examples=5", "--generation-deterministic", "--phases=coverage,fuzzing", "--no-color"]
        # What no schema says, such as that a title has something to be seen, is refused in a sentence.
        how.append("--exclude-checks=positive_data_acceptance")
        ran = subprocess.run([*command, who, *how], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("POST", "/conversations", "{"),
            ("POST", "/conversations", "[" * 100_000),
            ("POST", "/conversations", "null"),
            ("POST", "/conversations", '{"text": 5}'),
            ("POST", "/conversations", '{"text": " "}'),
            ("POST", "/conversations", '{"text": "half \\ud83d"}'),
            ("POST", "/conversations", '{"text": "hi", "model": "none"}'),
            ("POST", "/conversations", '{"text": "hi", "owner": "ann"}'),
            ("POST", "/conversations/x/decisions", '{"token": "x", "decisions": [{"id": 1}]}'),
            ("PATCH", "/conversations/x", '{"title": "\\u202e"}'),
            ("PATCH", "/conversations/x", '{"title": "a", "deleted": true}'),
            ("GET", "/conversations?after=nonsense", ""),
            ("GET", "/conversations?limit=0", ""),
            ("GET", "/conversations/x?before=-1", ""),
            ("GET", "/conversations/x/export?as=pdf", ""),
        ],
    )
    async def test_what_cant_be_used_is_refused_in_a_sentence_and_nothing_is_stored(
        self, ann: httpx.AsyncClient, method: str, path: str, body: str
    ) -> None:
        answer = await ann.request(method, path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422), answer.text
        assert re.fullmatch(r"[A-Z`].+\.", answer.json()["error"]), answer.text
        assert (await ann.get("/conversations")).json()["conversations"] == []

    async def test_a_long_title_is_shortened_and_what_reorders_text_is_taken_out(self, ann: httpx.AsyncClient) -> None:
        address = f"/conversations/{(await say(ann, 'echo hi'))['conversation']}"
        changed = (await ann.patch(address, json={"title": "\u202e<b>" + "long " * 5_000})).json()
        assert changed["title"].startswith("<b>long long")
        assert len(changed["title"]) <= 121

    async def test_a_decision_counts_once(self, ann: httpx.AsyncClient) -> None:
        reply = await say(ann, "approve")
        decisions = [
            {"id": call["id"], "fingerprint": call["fingerprint"], "verdict": "approve"} for call in reply["pending"]
        ]
        address = f"/conversations/{reply['conversation']}/decisions"
        answers = [
            (await ann.post(address, json={"token": reply["token"], "decisions": decisions})).status_code for _ in "12"
        ]
        assert answers == [200, 409]


async def test_the_description_for_tools_names_every_route_with_its_answers(ann: httpx.AsyncClient) -> None:
    description = (await ann.get("/openapi.json")).json()
    assert description["servers"] == [{"url": "/parley/api"}]
    assert {
        f"{method.upper()} {path}": sorted(operation["responses"])
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    } == snapshot(
        {
            "GET /about": ["200", "400", "403", "422", "503"],
            "GET /conversations": ["200", "400", "403", "422", "503"],
            "POST /conversations": ["200", "400", "403", "422", "429", "503"],
            "GET /conversations/{conversation}": ["200", "400", "403", "404", "422", "503"],
            "PATCH /conversations/{conversation}": ["200", "400", "403", "404", "409", "422", "503"],
            "DELETE /conversations/{conversation}": ["204", "400", "403", "404", "409", "422", "503"],
            "POST /conversations/{conversation}/messages": ["200", "400", "403", "404", "409", "422", "429", "503"],
            "GET /conversations/{conversation}/reply": ["200", "400", "403", "404", "422", "503"],
            "POST /conversations/{conversation}/decisions": ["200", "400", "403", "404", "409", "422", "429", "503"],
            "POST /conversations/{conversation}/stop": ["200", "400", "403", "404", "422", "503"],
            "GET /conversations/{conversation}/export": ["200", "400", "403", "404", "422", "503"],
            "POST /search": ["200", "400", "403", "422", "503"],
        }
    )
