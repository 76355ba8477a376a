"""Being somebody else: cookies that are forged, guessed, planted or sent twice, and what else could name one."""

import base64
import hashlib
from collections.abc import AsyncIterator

import httpx

from chat.identity import visitor
from tests.attacks.stage import Case, Stage, fault

NAMES = ("parley_visitor", "__Host-parley_visitor")


def _forged(token: str) -> list[str]:
    """Values that are not Anna's token, but made of what could be known of it."""
    digest = hashlib.sha256(token.encode()).digest()
    encoded = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    other = "A" if token[-1] != "A" else "B"
    return [
        digest.hex(),
        digest.hex()[:43],
        encoded,
        visitor(token),
        visitor(token)[:43],
        token[:-1] + other,
        other + token[1:],
        token[:-1],
        token + "=",
        token + "A",
        token.swapcase(),
        token[::-1],
        f" {token[1:]}",
        token[:42] + "%41",
        token[:42] + "\u00e9",
        "local".ljust(43, "0"),
        "%" * 43,
        "_" * 43,
        "0" * 43,
        "' OR 1=1 --".ljust(43, "-"),
        "*" * 43,
        "",
    ]


def _claims(token: str) -> list[dict[str, str]]:
    """Headers in which other programs are told who asks."""
    owner = visitor(token)
    return [
        {"authorization": f"Bearer {token}"},
        {"authorization": f"Basic {base64.b64encode(f'{owner}:{token}'.encode()).decode()}"},
        *(
            {name: owner}
            for name in ("x-forwarded-user", "remote-user", "x-user", "x-owner", "x-ip-token", "x-hf-user")
        ),
        *({"x-forwarded-for": address} for address in ("127.0.0.1", "::1", "127.0.0.1, 10.0.0.1")),
        {"forwarded": "for=127.0.0.1;host=localhost;proto=https"},
        {"x-real-ip": "127.0.0.1"},
        {"x-original-url": "/parley/export", "x-rewrite-url": "/parley/export"},
        {"x-http-method-override": "DELETE"},
    ]


async def cases(stage: Stage) -> AsyncIterator[Case]:
    """Everything is asked for Anna's list and for one of her conversations."""
    token, before = stage.anna.cookie, await stage.hers_now()
    paths = ("/parley/conversations", f"/parley/export/{stage.hers.conversation}?as=json", "/parley/export")
    async with httpx.AsyncClient(base_url=stage.chat.url) as client:
        for value in _forged(token):
            for name in NAMES:
                for path in paths:
                    cookie = f"{name}={value}".encode("latin-1", "replace")
                    yield await _asked(client, path, {b"cookie": cookie}, f"the cookie {name}={value[:8]}… at {path}")
        for headers in _claims(token):
            for path in paths:
                for cookie in ("", f"parley_visitor={stage.ben.cookie}"):
                    sent = {**headers, "cookie": cookie} if cookie else headers
                    yield await _asked(client, path, sent, f"{', '.join(headers)} at {path}")
        for names in ("session", "session_hash", "owner", "token", "parley_visitor", "cookie", "scope", "username"):
            for value in (token, visitor(token)):
                for path in paths:
                    query = f"{path}{'&' if '?' in path else '?'}{names}={value}"
                    yield await _asked(client, query, {}, f"{names} in the address of {path}")
        for pair in (
            f"parley_visitor={stage.ben.cookie}; parley_visitor=",
            f"parley_visitor=x; parley_visitor={'A' * 43}",
        ):
            yield await _asked(client, paths[0], {"cookie": pair}, "two cookies of one name")
    async with httpx.AsyncClient(base_url=stage.chat.url) as client:
        tokens = {(await client.get("/", headers={"cookie": ""})).headers["set-cookie"][:60] for _ in range(50)}
        yield Case("fifty browsers have fifty tokens", "" if len(tokens) == 50 else f"only {len(tokens)}")
        for planted in ("short", "A" * 44, "A" * 42, "B" * 43 + ";x", "<script>"):
            answer = await client.get("/", headers={"cookie": f"parley_visitor={planted}"})
            given = answer.headers.get("set-cookie", "")
            kept = len(planted.partition(";")[0]) != 43 and planted in given
            yield Case(f"a planted token of {len(planted)} letters", given if kept else "")
    after = await stage.hers_now()
    yield Case("nothing of Anna's was changed by it", "" if after == before else "it was")


async def _asked(client: httpx.AsyncClient, path: str, headers: object, name: str) -> Case:
    answer = await client.get(path, headers=headers)  # type: ignore[arg-type]  # bytes too
    return Case(name, fault(f"{answer.status_code} {answer.text}"))
