"""Each browser gets an identity of its own that scripts can't read and the database doesn't hold."""

import hashlib
import re
from types import SimpleNamespace

import httpx
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from chat.identify import Identify, Ways
from chat.identity import LIFETIME, Owner, owner_of

pytestmark = pytest.mark.anyio

TOKEN = "A" * 43


async def whoami(request: Request) -> PlainTextResponse:
    return PlainTextResponse(owner_of(request) or "nobody")


IDENTIFY = Identify(Starlette(routes=[Route("/{path:path}", whoami, methods=["GET", "POST"])]), ways=Ways())


class NoSessions:
    """Nobody has signed in: `test_login.py` has those who do."""

    async def find(self, token: str) -> None:
        return None


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    state = {"services": SimpleNamespace(sessions=NoSessions())}
    await IDENTIFY({**scope, "state": state}, receive, send)


def browser(scheme: str = "http", root_path: str = "", **headers: str) -> httpx.AsyncClient:
    """A client that keeps cookies, as a browser of its own."""
    transport = httpx.ASGITransport(app, root_path=root_path)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.AsyncClient(transport=transport, base_url=f"{scheme}://chat.example", headers=names)


async def test_a_first_visit_over_http_gets_a_cookie_that_scripts_cannot_read() -> None:
    async with browser() as client:
        response = await client.get("/")
    [cookie] = response.headers.get_list("set-cookie")
    assert re.fullmatch(rf"parley_visitor=[\w-]{{43}}; Path=/; Max-Age={LIFETIME}; HttpOnly; SameSite=Lax", cookie)
    assert response.text == "nobody"


@pytest.mark.parametrize(
    ("scheme", "headers"),
    [
        ("https", {}),
        ("http", {"x_forwarded_proto": "https"}),
        ("http", {"x_forwarded_proto": "https,http"}),
    ],
)
async def test_a_first_visit_over_https_gets_a_cookie_of_this_host_that_works_in_a_frame(
    scheme: str, headers: dict[str, str]
) -> None:
    async with browser(scheme, **headers) as client:
        [cookie] = (await client.get("/")).headers.get_list("set-cookie")
    assert re.fullmatch(
        rf"__Host-parley_visitor=[\w-]{{43}}; Path=/; Max-Age={LIFETIME}; HttpOnly; SameSite=None; Secure; Partitioned",
        cookie,
    )


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_visitor_who_comes_back_stays_the_same_owner(scheme: str) -> None:
    async with browser(scheme) as client:
        await client.get("/")
        answers = [await client.get(path) for path in ("/", "/config", "/", "/gradio_api/call")]
    assert [answer.headers.get("set-cookie") for answer in answers] == [None] * 4
    assert {answer.text for answer in answers} == {answers[0].text}
    assert answers[0].text.startswith("visitor:")


@pytest.mark.parametrize("path", ["/", "/config"])
async def test_a_visit_begins_with_the_page_or_its_configuration(path: str) -> None:
    async with browser() as client:
        assert "set-cookie" in (await client.get(path)).headers


@pytest.mark.parametrize("path", ["/theme.css", "/gradio_api/queue/join", "/assets/", "/config/x"])
async def test_other_requests_bring_no_cookie(path: str) -> None:
    async with browser() as client:
        assert "set-cookie" not in (await client.get(path)).headers


async def test_a_chat_below_a_path_gives_its_cookie_there_too() -> None:
    async with browser(root_path="/parley") as client:
        assert "set-cookie" in (await client.get("/parley/")).headers
        assert "set-cookie" not in (await client.get("/parley/theme.css")).headers


async def test_two_visitors_are_two_owners() -> None:
    owners: set[str] = set()
    for _ in range(2):
        async with browser() as client:
            await client.get("/")
            owners.add((await client.get("/")).text)
    assert len(owners) == 2
    assert "nobody" not in owners


async def test_the_owner_is_a_hash_that_does_not_give_the_token_away() -> None:
    async with browser(cookie=f"parley_visitor={TOKEN}") as client:
        owner = (await client.get("/")).text
    assert owner == f"visitor:{hashlib.sha256(TOKEN.encode()).hexdigest()}"
    assert TOKEN not in owner


async def test_the_cookie_of_this_host_comes_before_one_that_another_host_can_set() -> None:
    async with browser(cookie=f"parley_visitor={'B' * 43}; __Host-parley_visitor={TOKEN}") as client:
        assert (await client.get("/")).text == f"visitor:{hashlib.sha256(TOKEN.encode()).hexdigest()}"


@pytest.mark.parametrize("other", ['state={"a": 1}', "bad[name]=1", "bad name=1", "=", "a=\u00fc", 'a="unclosed'])
async def test_a_strange_cookie_of_another_program_does_not_hide_ours(other: str) -> None:
    owner = f"visitor:{hashlib.sha256(TOKEN.encode()).hexdigest()}"
    async with browser() as client:
        for cookie in (f"{other}; parley_visitor={TOKEN}", f"parley_visitor={TOKEN}; {other}"):
            response = await client.get("/", headers={b"cookie": cookie.encode("latin-1")})
            assert (response.text, response.headers.get("set-cookie")) == (owner, None)


@pytest.mark.parametrize(
    "cookie",
    [
        "",
        "parley_visitor=",
        "parley_visitor=short",
        f"parley_visitor={TOKEN}A",
        f"other={TOKEN}",
        f"parley visitor={TOKEN}",
        f"bad[name]=1; parley_visitor={TOKEN[1:]}",
        "=;=;;",
        'parley_visitor="unclosed',
        "\u00ff\u00fe",
    ],
)
async def test_a_cookie_that_we_never_gave_is_nobody_and_is_replaced(cookie: str) -> None:
    async with browser() as client:
        response = await client.get("/", headers={b"cookie": cookie.encode("latin-1")})
    assert response.text == "nobody"
    assert "set-cookie" in response.headers


async def test_what_is_no_web_page_passes_through_untouched() -> None:
    seen: list[str] = []

    async def app(scope: object, receive: object, send: object) -> None:
        seen.append("called")

    async def nothing(*_: object) -> None:
        raise AssertionError("Nothing is sent or received.")

    await Identify(app, ways=Ways())({"type": "websocket", "path": "/", "headers": []}, nothing, nothing)  # pyright: ignore
    assert seen == ["called"]


def test_an_owner_is_never_empty() -> None:
    assert Owner("visitor:1") == "visitor:1"
    with pytest.raises(ValueError, match="can't be empty"):
        Owner("")


@examples(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=60) | st.sampled_from([b"parley_visitor=" + b"%" * 43, b"__Host-parley_visitor"])))
def test_whatever_a_cookie_holds_it_names_a_visitor_or_nobody(cookies: list[bytes]) -> None:
    scope = {"type": "http", "headers": [(b"cookie", b"; ".join(cookies))]}
    owner = owner_of(Request(scope))
    assert owner is None or re.fullmatch(r"visitor:[0-9a-f]{64}", owner)
