"""Signing in as somebody else, staying in, and being taken for the person at this computer: on chats of their own.

One has accounts, one is for the person at this computer, one signs in with Hugging Face as on a Space.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx

from chat.accounts import Accounts, add
from chat.hugging_face import HuggingFace
from chat.identify import Ways
from chat.login import Login
from tests.attacks.stage import SECONDS, WORD, Case, Stage, fault
from tests.browser import Chat

PASSWORD = "correct horse"  # noqa: S105  # a test's
SPACE = {
    "SYSTEM": "spaces",
    "SPACE_HOST": "anna-chat.hf.space",
    "OPENID_PROVIDER_URL": "http://127.0.0.1:1",
    "OAUTH_CLIENT_ID": WORD,
    "OAUTH_CLIENT_SECRET": WORD,
    "OAUTH_SCOPES": "openid profile",
}
HERS = ("/parley/conversations", "/parley/export", "/parley/api/conversations", "/config")
FORMS: tuple[dict[str, Any], ...] = (
    {},
    {"data": {"name": "anna"}},
    {"data": {"name": "anna", "password": ""}},
    {"data": {"name": ["anna", "anna"], "password": ["x", PASSWORD.upper()]}},
    {"data": {"name": "anna", "password": "\x00" * 50}},
    {"data": {"name": "anna\r\nset-cookie: x=1", "password": PASSWORD}},
    {"data": {"name": "anna:scrypt", "password": PASSWORD}},
    {"data": {"name": "../people", "password": PASSWORD}},
    {"json": {"name": "anna", "password": PASSWORD}},
    {"files": {"name": b"anna", "password": PASSWORD.encode()}},
    {"params": {"name": "anna", "password": PASSWORD}},
    {"content": b"name=anna&password=%ff%fe%00", "headers": {"content-type": "application/x-www-form-urlencoded"}},
    {"content": b"\xff" * 9_000, "headers": {"content-type": "multipart/form-data; boundary=x"}},
    {"content": b"name=" + b"a" * 50_000, "headers": {"content-type": "application/x-www-form-urlencoded"}},
)
ELSEWHERE = ("next", "_target_url", "redirect", "url", "return_to", "root_path", "state", "code")
FORWARDED = (
    {"x-forwarded-for": "127.0.0.1"},
    {"x-forwarded-for": ""},
    {"x-forwarded-for": "8.8.8.8, 127.0.0.1"},
    {"X-FORWARDED-FOR": "::1"},
    {"x-forwarded-proto": "https"},
    {"x-forwarded-host": "localhost"},
    {"x-forwarded-port": "443"},
    {"x-forwarded-server": "localhost"},
    {"x-forwarded-prefix": "/"},
    {"forwarded": "for=127.0.0.1;host=localhost;proto=http"},
    {"forwarded": 'for="[::1]"'},
    {"via": "1.1 localhost"},
    {"x-real-ip": "127.0.0.1"},
    {"x-client-ip": "127.0.0.1"},
    {"true-client-ip": "127.0.0.1"},
    {"cf-connecting-ip": "127.0.0.1"},
    {"x-original-host": "localhost"},
    {"tailscale-user-login": "anna@example.org"},
    {"host": "localhost", "x-forwarded-for": "127.0.0.1"},
    {"x-forwarded-for": "127.0.0.1", "authorization": "Basic bG9jYWw6"},
)


async def cases(stage: Stage) -> AsyncIterator[Case]:
    """Each on the chat where it could work."""
    folder = stage.chat.database.parent
    people = folder / "people"
    for name in ("anna", "ben"):
        add(people, name, PASSWORD)
    settings = ({"CHAT_AUTH": str(people)}, {"CHAT_LOCAL": "true"}, SPACE)
    chats = await asyncio.gather(
        *(asyncio.to_thread(_started, folder / f"{at}", **each) for at, each in enumerate(settings))
    )
    try:
        for attack, chat in zip((_accounts, _local, _hugging_face), chats, strict=True):
            async for case in attack(chat):
                yield case
    finally:
        for chat in chats:
            chat.kill()
    tried = {("GET", "/parley/account"), ("GET", "/login"), ("POST", "/login"), ("POST", "/logout")}
    tried |= {("GET", "/login/huggingface"), ("GET", "/login/callback")}
    provider = HuggingFace("https://hub.example", "chat.example", "id", "secret", "openid")
    routes = Login("", Ways(Accounts(people), hugging_face=True), provider).routes
    found = {(method, route.path) for route in routes for method in route.methods or () if method != "HEAD"}
    yield Case("every route of signing in is tried", "" if found == tried else str(found ^ tried))


def _started(folder: Path, **environment: str) -> Chat:
    folder.mkdir()
    return Chat(folder, "--agent", "tests.scripted:agent", **environment)


def _browser(chat: Chat, token: str | None = None) -> httpx.AsyncClient:
    cookies = {} if token is None else {"parley_visitor": token}
    return httpx.AsyncClient(base_url=chat.url, cookies=cookies, timeout=SECONDS)


def _unless(status: int, answer: httpx.Response) -> str:
    return "" if answer.status_code == status else f"{answer.status_code} {answer.text[:200]}"


async def _signed_in(chat: Chat, name: str, planted: str | None = None) -> str:
    """The token of a new session, in a browser that may have had another one before."""
    async with _browser(chat, planted) as browser:
        answer = await browser.post("/login", data={"name": name, "password": PASSWORD})
        return re.findall(r"parley_visitor=([\w-]+)", answer.headers.get("set-cookie", ""))[0]


async def _entered(chat: Chat, token: str | None) -> str:
    """What a token lets somebody see who should see nothing."""
    async with _browser(chat, token) as browser:
        for path in HERS:
            answer = await browser.get(path)
            if answer.status_code != httpx.codes.UNAUTHORIZED or fault(answer.text):
                return f"{path}: {answer.status_code} {answer.text[:200]}"
    return ""


async def _accounts(chat: Chat) -> AsyncIterator[Case]:
    anna = await _signed_in(chat, "anna")
    async with _browser(chat, anna) as browser:
        made = await browser.post("/parley/api/conversations", json={"text": f"echo {WORD}"})
        yield Case("Anna signs in and writes", "" if made.status_code == httpx.codes.OK else made.text)
    for planted in (None, "A" * 43, "local".ljust(43, "0")):
        yield Case("nobody is let in without signing in", await _entered(chat, planted))
    for planted in ("A" * 43, await _signed_in(chat, "ben")):
        given = await _signed_in(chat, "anna", planted)
        yield Case(
            "a token that was planted before", await _entered(chat, planted) or ("kept" if given == planted else "")
        )
    ben = await _signed_in(chat, "ben")
    async with _browser(chat, ben) as browser:
        listed = (await browser.get("/parley/conversations")).text
        yield Case("Ben, signed in, has nothing of Anna's", fault(listed))
    for form in FORMS:
        async with _browser(chat) as stranger:
            answer = await stranger.post("/login", **form)
            given = answer.headers.get("set-cookie", "")
            wrong = fault(answer.text) or given or ("" if 400 <= answer.status_code < 500 else str(answer.status_code))
            yield Case(f"the form {str(form)[:80]}", wrong)
    for place in ("https://evil.example", "//evil.example", "/\\evil.example"):
        places = dict.fromkeys(ELSEWHERE, place)
        data = {"name": "ben", "password": PASSWORD, **places}
        for method, path, form in (("GET", "/login", None), ("POST", "/login", data), ("POST", "/logout", places)):
            async with _browser(chat) as stranger:
                answer = await stranger.request(method, path, params=places, data=form)
                led = "evil.example" in answer.headers.get("location", "")
                yield Case(f"{method} {path} that names {place}", "led there" if led else fault(answer.text))
    for origin in ("https://evil.example", "null"):
        async with _browser(chat, anna) as victim:
            for path in ("/login", "/logout"):
                data = {"name": "ben", "password": PASSWORD}
                answer = await victim.post(path, data=data, headers={"origin": origin})
                yield Case(
                    f"another site's page sends to {path}", "" if answer.status_code == 403 else str(answer.status_code)
                )
            answer = await victim.get("/logout")
            yield Case("a link signs nobody out", "" if answer.status_code == 404 else str(answer.status_code))
            yield Case(
                "Anna is still signed in",
                fault("") or ("" if WORD in (await victim.get(HERS[0])).text else "she is not"),
            )
    async with _browser(chat, anna) as browser:
        await browser.post("/logout")
    yield Case("a token is worth nothing after signing out", await _entered(chat, anna))
    async with _browser(chat) as guesser:
        tries = [guesser.post("/login", data={"name": "ben", "password": f"guess {at}"}) for at in range(30)]
        tried = sorted(answer.status_code for answer in await asyncio.gather(*tries))
        yield Case("thirty passwords at once", "" if tried == [403] * 5 + [429] * 25 else str(tried))
        answer = await guesser.post("/login", data={"name": "ben", "password": PASSWORD})
        yield Case("the right one after them", _unless(429, answer))


async def _local(chat: Chat) -> AsyncIterator[Case]:
    async with _browser(chat) as person:
        await person.get("/")
        await person.post("/parley/api/conversations", json={"text": f"echo {WORD}"})
    async with _browser(chat) as another:
        await another.get("/")
        yield Case("the person at this computer is known", "" if WORD in (await another.get(HERS[0])).text else "not")
    for headers, page in zip(FORWARDED, cycle(("/", "/config", "/parley/api/about")), strict=False):
        async with _browser(chat) as stranger:
            answers = [await stranger.get(path, headers=headers) for path in (page, *HERS)]
            yield Case(f"{headers} at {page}", next(filter(None, (fault(answer.text) for answer in answers)), ""))
    for host in ("evil.example", "anna.local", "localhost.evil.example"):
        async with _browser(chat) as rebound:
            answer = await rebound.get("/", headers={"host": host})
            yield Case(f"the name {host}", _unless(421, answer))


async def _hugging_face(chat: Chat) -> AsyncIterator[Case]:
    async with _browser(chat) as browser:
        asked = await browser.get("/login/huggingface", headers={"host": SPACE["SPACE_HOST"]})
        led = asked.headers.get("location", "")
        yield Case(
            "the browser is led to the provider only", "" if led.startswith(SPACE["OPENID_PROVIDER_URL"]) else led
        )
        state = httpx.URL(led).params.get("state", "")
    for planted, sent in (("", ""), ("", state), ("x", "x"), (state, ""), (state[:-1], state[:-1]), (state, state)):
        for code in ("", "x", "\x00", "x" * 3_000):
            async with _browser(chat) as stranger:
                cookie = {"cookie": f"parley_login={planted}", "host": SPACE["SPACE_HOST"]}
                answer = await stranger.get("/login/callback", params={"state": sent, "code": code}, headers=cookie)
                entered = "parley_visitor" in answer.headers.get("set-cookie", "")
                wrong = fault(answer.text) or ("let in" if entered or answer.status_code != 403 else "")
                yield Case(
                    f"an answer of the provider's that is none: {planted[:5]!r}, {sent[:5]!r}, {code[:5]!r}", wrong
                )
    for name in ("next", "_target_url", "claim"):
        async with _browser(chat) as stranger:
            answer = await stranger.get("/login/huggingface", params={name: "https://evil.example"})
            led = answer.headers.get("location", "")
            ours = led.startswith((f"https://{SPACE['SPACE_HOST']}/", SPACE["OPENID_PROVIDER_URL"]))
            yield Case(f"/login/huggingface?{name}", "" if ours else led)
    async with _browser(chat) as stranger:
        answer = await stranger.post("/login", data={"name": "anna", "password": PASSWORD})
        yield Case("no password signs in there", _unless(404, answer))
        told = await stranger.get("/parley/account")
        yield Case("nobody is told to have signed in", "" if told.json() == {"name": None} else told.text)
