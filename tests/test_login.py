"""People sign in, take along what they wrote, and sign out; nobody gets in otherwise."""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic_ai import ModelRequest
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import UserPromptPart
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from chat import attempts
from chat.accounts import Accounts, add, remove
from chat.hugging_face import HuggingFace
from chat.identify import LOCAL, Identify, Ways
from chat.identity import Owner, owner_of, visitor
from chat.local_person import is_local_person
from chat.login import WRONG, Login
from chat.runs import ConversationBusy
from chat.services import Services, open_services
from chat.sessions import OWNED
from chat.settings import Settings
from tests.scripted import agent  # noqa: F401  # the settings name it

pytestmark = pytest.mark.anyio

PASSWORD = "correct horse"  # noqa: S105  # a test's


async def whoami(request: Request) -> PlainTextResponse:
    return PlainTextResponse(owner_of(request) or "nobody")


class Chat:
    """The middleware and the login routes over a real database, without Gradio."""

    def __init__(self, services: Services, ways: Ways, hugging_face: HuggingFace | None = None) -> None:
        self.services = services
        login = Login("My <chat>", ways, hugging_face)
        routes = [*login.routes, Route("/{path:path}", whoami, methods=["GET", "POST"])]
        self._app = Identify(Starlette(routes=routes), ways=ways)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "state": {"services": self.services}}, receive, send)

    def browser(self, client: str = "203.0.113.1", **options: Any) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self, client=(client, 5000))
        return httpx.AsyncClient(transport=transport, base_url="https://chat.example", **options)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Services]:
    async with open_services(Settings(database=path / "chat.db", agent="tests.scripted:agent")) as services:
        yield services


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async with opened(tmp_path) as services:
        yield services


@pytest.fixture
def people(tmp_path: Path) -> Path:
    add(tmp_path / "people", "Anna", PASSWORD)
    return tmp_path / "people"


@pytest.fixture
def chat(services: Services, people: Path) -> Chat:
    return Chat(services, Ways(Accounts(people)))


async def write(services: Services, owner: Owner, conversation_id: str) -> str:
    """A conversation of an owner's, stored; its revision."""
    conversation = Conversation(conversation_id=conversation_id)
    conversation.messages.append(ModelRequest(parts=[UserPromptPart("hello")]))
    await services.store.save(conversation, scope=owner)
    return conversation.revision or ""


async def sign_in(browser: httpx.AsyncClient, name: str = "anna", password: str = PASSWORD, **more: str) -> Any:
    return await browser.post("/login", data={"name": name, "password": password, **more})


def token(browser: httpx.AsyncClient) -> str:
    return browser.cookies["__Host-parley_visitor"]


class TestPassword:
    async def test_without_signing_in_there_is_only_the_login_page(self, chat: Chat) -> None:
        browser = chat.browser()
        assert (await browser.get("/")).headers["location"] == "/login"
        for path in ("/config", "/gradio_api/queue/join", "/parley/conversations", "/assets/a.js"):
            answer = await browser.get(path)
            assert (answer.status_code, answer.text) == (401, "Sign in first.")
        page = await browser.get("/login")
        assert page.status_code == 200
        assert "<script" not in page.text
        assert "My &lt;chat&gt;" in page.text
        assert page.headers["content-security-policy"].startswith("default-src 'none'")

    async def test_a_visitors_cookie_is_no_way_in(self, chat: Chat) -> None:
        browser = chat.browser(cookies={"parley_visitor": "A" * 43})
        assert (await browser.get("/parley/x")).status_code == 401

    @pytest.mark.parametrize("name", ["anna", " Anna", "ANNA "])
    async def test_the_right_password_leads_to_the_chat(self, chat: Chat, name: str) -> None:
        browser = chat.browser()
        answer = await sign_in(browser, name)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert (await browser.get("/")).text == "user:anna"
        assert (await browser.get("/parley/account")).json() == {"name": "anna"}
        assert (await browser.get("/login")).headers["location"] == "/"

    @pytest.mark.parametrize(
        ("name", "password"),
        [
            ("anna", "wrong"),
            ("anna", ""),
            ("anna", PASSWORD.upper()),
            ("anna", "x" * 100_000),
            ("anna", "\x00"),
            ("ben", PASSWORD),
            ("", PASSWORD),
            ("anna:scrypt", PASSWORD),
        ],
    )
    async def test_a_wrong_one_is_told_in_the_same_sentence_as_an_unknown_name(
        self, chat: Chat, name: str, password: str
    ) -> None:
        browser = chat.browser()
        answer = await sign_in(browser, name, password)
        assert answer.status_code == 403
        assert re.findall(r'role="alert">([^<]*)', answer.text) == [WRONG.replace("'", "&#x27;")]
        assert (await browser.get("/parley/x")).status_code == 401

    async def test_what_was_typed_comes_back_as_text(self, chat: Chat) -> None:
        answer = await sign_in(chat.browser(), '"><script>', "wrong")
        assert 'value="&quot;&gt;&lt;script&gt;"' in answer.text

    async def test_nothing_but_the_two_fields_can_let_anybody_in(self, chat: Chat) -> None:
        browser = chat.browser()
        assert (await browser.post("/login")).status_code == 403
        assert (await browser.post("/login", files={"name": b"anna", "password": b"x"})).status_code == 403
        assert (await browser.get("/login", params={"name": "anna", "password": PASSWORD})).status_code == 200
        assert (await browser.get("/parley/x")).status_code == 401

    async def test_after_five_wrong_ones_the_right_one_has_to_wait_but_not_elsewhere(
        self, chat: Chat, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        guesser = chat.browser()
        answers = await asyncio.gather(*(sign_in(guesser, password=f"guess {number}") for number in range(8)))
        assert sorted(answer.status_code for answer in answers) == [403] * 5 + [429] * 3
        answer = await sign_in(guesser)
        assert answer.status_code == 429
        assert "Too many attempts. Try again in 15 minutes." in answer.text
        assert (await sign_in(chat.browser("203.0.113.2"))).status_code == 303
        later = time.monotonic() + attempts.WINDOW + 1
        monkeypatch.setattr(time, "monotonic", lambda: later)
        assert (await sign_in(guesser)).status_code == 303

    async def test_an_address_that_tries_many_names_has_to_wait(
        self, chat: Chat, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("chat.accounts._scrypt", lambda password, salt: b"")  # type: ignore[reportUnknownLambdaType]
        for number in range(50):
            assert (await sign_in(chat.browser("2001:db8::1"), f"name{number}", "wrong")).status_code == 403
        assert (await sign_in(chat.browser("2001:db8::2"), "another", "wrong")).status_code == 429


class TestSession:
    async def test_a_token_that_was_known_before_is_worth_nothing_after_signing_in(self, chat: Chat) -> None:
        planted = "A" * 43
        browser = chat.browser(cookies={"__Host-parley_visitor": planted})
        await sign_in(browser)
        assert (await browser.get("/parley/x")).text == "user:anna"
        assert (await chat.browser(cookies={"__Host-parley_visitor": planted}).get("/parley/x")).status_code == 401

    async def test_the_database_does_not_hold_the_token(self, chat: Chat, tmp_path: Path) -> None:
        browser = chat.browser()
        await sign_in(browser)
        stored = b"".join(path.read_bytes() for path in tmp_path.glob("chat.db*"))  # noqa: ASYNC240
        assert token(browser).encode() not in stored
        assert PASSWORD.encode() not in stored

    async def test_a_restart_keeps_people_signed_in(self, tmp_path: Path, people: Path) -> None:
        async with opened(tmp_path) as services:
            browser = Chat(services, Ways(Accounts(people))).browser()
            await sign_in(browser)
        async with opened(tmp_path) as services:
            again = Chat(services, Ways(Accounts(people))).browser(cookies=browser.cookies)
            assert (await again.get("/parley/x")).text == "user:anna"

    @pytest.mark.parametrize(
        "change",
        [lambda people: add(people, "anna", "another one"), lambda people: remove(people, "anna")],
        ids=["another", "none"],
    )
    async def test_another_password_or_none_signs_people_out(
        self, chat: Chat, people: Path, change: Callable[[Path], None]
    ) -> None:
        browser = chat.browser()
        await sign_in(browser)
        change(people)
        assert (await browser.get("/parley/x")).status_code == 401

    async def test_a_session_ends_after_thirty_days(self, chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
        browser = chat.browser()
        await sign_in(browser)
        later = time.time() + 30 * 24 * 3600 + 1
        monkeypatch.setattr(time, "time", lambda: later)
        assert (await browser.get("/parley/x")).status_code == 401

    async def test_signing_out_ends_the_session_also_for_who_kept_its_token(self, chat: Chat) -> None:
        browser = chat.browser()
        await sign_in(browser)
        kept = chat.browser(cookies={"__Host-parley_visitor": token(browser)})
        answer = await browser.post("/logout")
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        for each in (browser, kept):
            assert (await each.get("/parley/x")).status_code == 401

    async def test_a_session_of_another_way_in_does_not_count(self, services: Services, people: Path) -> None:
        open_chat = Chat(services, Ways(hugging_face=True))
        for owner in ("hf:1", "local", "user:anna"):
            given = await services.sessions.start(Owner(owner), "x")
            cookies = {"__Host-parley_visitor": given}
            expected = visitor(given) if owner == "user:anna" else owner
            assert (await open_chat.browser(cookies=cookies).get("/parley/x")).text == expected
            closed = Chat(services, Ways(Accounts(people)))
            assert (await closed.browser(cookies=cookies).get("/parley/x")).status_code == 401


class TestClaim:
    async def test_what_a_browser_wrote_goes_along_with_new_revisions(self, chat: Chat) -> None:
        before = "A" * 43
        old = await write(chat.services, visitor(before), "trip")
        browser = chat.browser(cookies={"__Host-parley_visitor": before})
        assert 'name="claim"' in (await browser.get("/login")).text
        await sign_in(browser, claim="on")
        assert await chat.services.store.load("trip", scope=visitor(before)) is None
        moved = await chat.services.store.load("trip", scope="user:anna")
        assert moved is not None
        assert moved.revision != old

    async def test_it_stays_where_it_is_when_that_was_not_asked_for(self, chat: Chat) -> None:
        before = "A" * 43
        await write(chat.services, visitor(before), "trip")
        await sign_in(chat.browser(cookies={"__Host-parley_visitor": before}))
        assert await chat.services.store.load("trip", scope="user:anna") is None

    async def test_nothing_is_offered_to_a_browser_that_wrote_nothing(self, chat: Chat) -> None:
        assert 'name="claim"' not in (await chat.browser(cookies={"parley_visitor": "A" * 43}).get("/login")).text

    async def test_who_signs_in_after_somebody_else_does_not_get_theirs(self, chat: Chat, people: Path) -> None:
        add(people, "ben", PASSWORD)
        browser = chat.browser()
        await sign_in(browser)
        await write(chat.services, Owner("user:anna"), "trip")
        await sign_in(browser, "ben", claim="on")
        assert await chat.services.store.load("trip", scope="user:anna") is not None

    async def test_nothing_begins_for_who_is_being_moved(self, chat: Chat) -> None:
        owner = visitor("A" * 43)
        await write(chat.services, owner, "trip")
        async with chat.services.runs.without(owner):
            with pytest.raises(ConversationBusy):
                await chat.services.runs.send(owner, "trip", "hello", agent=None)  # type: ignore[arg-type]

    async def test_every_table_that_says_whose_something_is_goes_along(self, services: Services) -> None:
        rows = await services.database.rows(
            """SELECT m.name AS tab, c.name AS col FROM sqlite_schema m, pragma_table_info(m.name) c
            WHERE m.type = 'table' AND c.name IN ('scope', 'owner')"""
        )
        # A session is somebody's own, and so is what is held back for a reply of theirs that is being written.
        # What can be found is moved by the search's own rule, and what is kept is counted by triggers.
        elsewhere = ("session", "reservation", "search_owner", "search_document", "holding")
        rows = [row for row in rows if row["tab"] not in elsewhere]
        assert {(row["tab"], row["col"]) for row in rows} == set(OWNED)


class TestLocal:
    def local(self, services: Services) -> Chat:
        return Chat(services, Ways(local=lambda: True))

    @pytest.fixture(autouse=True)
    def without_a_connection(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def is_local(scope: Scope) -> bool:
            return scope["client"][0] == "127.0.0.1"

        monkeypatch.setattr("chat.identify.is_local_person", is_local)

    async def test_all_browsers_and_addresses_of_the_person_are_one(self, services: Services) -> None:
        chat = self.local(services)
        for host in ("localhost", "127.0.0.1"):
            browser = chat.browser("127.0.0.1", headers={"host": host})
            await browser.get("/")
            assert (await browser.get("/parley/x")).text == LOCAL

    async def test_what_the_person_wrote_as_a_visitor_is_still_theirs(self, services: Services) -> None:
        await write(services, visitor("A" * 43), "trip")
        browser = self.local(services).browser("127.0.0.1", cookies={"__Host-parley_visitor": "A" * 43})
        await browser.get("/")
        assert await services.store.load("trip", scope=LOCAL) is not None

    async def test_the_person_stays_the_same_when_others_can_reach_the_chat(self, services: Services) -> None:
        browser = self.local(services).browser("127.0.0.1")
        await browser.get("/")
        shared = Chat(services, Ways())
        assert (await shared.browser(cookies=browser.cookies).get("/parley/x")).text == LOCAL
        assert (await shared.browser("127.0.0.1").get("/parley/x")).text == "nobody"

    async def test_somebody_elses_connection_is_a_visitors(self, services: Services) -> None:
        browser = self.local(services).browser("203.0.113.1")
        await browser.get("/")
        assert (await browser.get("/parley/x")).text.startswith("visitor:")


class TestLocalConnection:
    def scope(self, client: Any, server: Any, **headers: str) -> Scope:
        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        return {"type": "http", "client": client, "server": server, "headers": pairs}

    async def test_a_connection_of_the_user_who_runs_the_chat_is_recognised(self) -> None:
        async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async with await asyncio.start_server(nothing, "127.0.0.1", 0) as server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            ends = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
            assert is_local_person(self.scope(*ends))
            assert not is_local_person(self.scope(*ends, x_forwarded_for="203.0.113.1"))
            assert not is_local_person(self.scope(*ends, forwarded="for=203.0.113.1"))
            writer.close()

    @pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="Only Linux tells whose a connection is.")
    async def test_another_users_connection_is_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async with await asyncio.start_server(nothing, "127.0.0.1", 0) as server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            ends = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
            monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
            assert not is_local_person(self.scope(*ends))
            writer.close()

    async def test_what_is_not_connected_here_is_not(self) -> None:
        local = ("127.0.0.1", 1)
        for client in (None, local, ("203.0.113.1", 1), ("a", 1)):
            assert not is_local_person(self.scope(client, local))


class TestHuggingFace:
    @pytest.fixture
    async def provider(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """Stands in for Hugging Face: what it was asked, and what it says."""
        known: dict[str, Any] = {"account": {"sub": "0123", "preferred_username": "anna<b>"}, "codes": {"good"}}

        async def token(request: Request) -> JSONResponse:
            form = dict(await request.form())
            known["form"] = form
            if form["code"] not in known["codes"]:
                return JSONResponse({"error": "invalid_grant"}, 400)
            known["codes"].discard(form["code"])
            return JSONResponse({"access_token": "t"})

        async def userinfo(request: Request) -> JSONResponse:
            return JSONResponse(known["account"] if request.headers["authorization"] == "Bearer t" else {})

        app = Starlette(
            routes=[Route("/oauth/token", token, methods=["POST"]), Route("/oauth/userinfo", userinfo)],
        )
        monkeypatch.setattr(
            "chat.hugging_face.AsyncClient", lambda timeout: httpx.AsyncClient(transport=httpx.ASGITransport(app))
        )
        return known

    @pytest.fixture
    def space(self, services: Services, provider: dict[str, Any]) -> Chat:
        hugging_face = HuggingFace("https://hub.example", "chat.example", "id", "secret", "openid profile")
        return Chat(services, Ways(hugging_face=True), hugging_face)

    async def ask(self, browser: httpx.AsyncClient, path: str = "/login/huggingface") -> dict[str, str]:
        asked = await browser.get(path)
        assert asked.headers["location"].startswith("https://hub.example/oauth/authorize?")
        return dict(httpx.URL(asked.headers["location"]).params)

    async def test_the_account_is_known_by_its_stable_id(self, space: Chat, provider: dict[str, Any]) -> None:
        browser = space.browser()
        question = await self.ask(browser)
        answer = await browser.get("/login/callback", params={"state": question["state"], "code": "good"})
        assert answer.headers["location"] == "/"
        assert (await browser.get("/parley/x")).text == "hf:0123"
        assert (await browser.get("/parley/account")).json() == {"name": "anna<b>"}
        assert question["redirect_uri"] == "https://chat.example/login/callback"
        assert question["code_challenge_method"] == "S256"
        assert provider["form"]["client_secret"] == "secret"  # noqa: S105

    async def test_what_was_written_before_is_claimed_when_that_was_asked_for(self, space: Chat) -> None:
        await write(space.services, visitor("A" * 43), "trip")
        browser = space.browser(cookies={"__Host-parley_visitor": "A" * 43})
        question = await self.ask(browser, "/login/huggingface?claim=on")
        await browser.get("/login/callback", params={"state": question["state"], "code": "good"})
        assert await space.services.store.load("trip", scope="hf:0123") is not None

    async def test_an_answer_to_another_browsers_question_lets_nobody_in(self, space: Chat) -> None:
        attacker, victim = space.browser(), space.browser()
        theirs, own = await self.ask(attacker), await self.ask(victim)
        for state in (theirs["state"], "", "x", own["state"] + "x"):
            answer = await victim.get("/login/callback", params={"state": state, "code": "good"})
            assert answer.status_code == 403
            assert "Try again." in answer.text
        assert not (await victim.get("/parley/x")).text.startswith("hf:")

    async def test_an_answer_counts_once(self, space: Chat, provider: dict[str, Any]) -> None:
        browser = space.browser()
        question = await self.ask(browser)
        provider["codes"].add("second")
        for code, status in (("bad", 403), ("good", 403), ("second", 403)):
            answer = await browser.get("/login/callback", params={"state": question["state"], "code": code})
            assert answer.status_code == status

    @pytest.mark.parametrize("account", [{}, {"sub": ""}, {"sub": 5}, []])
    async def test_an_account_without_an_id_is_nobody(
        self, space: Chat, provider: dict[str, Any], account: Any
    ) -> None:
        provider["account"] = account
        browser = space.browser()
        question = await self.ask(browser)
        answer = await browser.get("/login/callback", params={"state": question["state"], "code": "good"})
        assert (answer.status_code, "did not say who you are" in answer.text) == (403, True)

    async def test_visitors_go_on_without_signing_in(self, space: Chat) -> None:
        browser = space.browser()
        await browser.get("/")
        assert (await browser.get("/parley/x")).text.startswith("visitor:")

    def test_it_is_offered_only_on_a_space_that_has_it(self) -> None:
        space = {
            "SYSTEM": "spaces",
            "SPACE_HOST": "me-chat.hf.space, chat.example",
            "OAUTH_CLIENT_ID": "id",
            "OAUTH_CLIENT_SECRET": "secret",
            "OAUTH_SCOPES": "openid profile",
            "OPENID_PROVIDER_URL": "https://huggingface.co",
        }
        found = HuggingFace.from_space(space)
        assert found is not None
        assert found.host == "me-chat.hf.space"
        for missing in space:
            assert HuggingFace.from_space({name: value for name, value in space.items() if name != missing}) is None
