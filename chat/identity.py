"""Who is asking: the one place where a request's owner is derived.

Every browser gets a random 256-bit token in a cookie that scripts can't read. The owner of what it writes is the
token's SHA-256, so that nobody who reads the database can come back as one of its visitors. Nothing else that a client
sends (a conversation's id, a session hash, a history) says anything about who it is.
"""

import hashlib
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection, cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "parley_visitor"
SECURE_COOKIE = f"__Host-{COOKIE}"
"""The name over https: browsers take a `__Host-` cookie only from the very host, over https, for all paths."""

LIFETIME = 400 * 24 * 3600
"""Seconds that browsers keep the cookie: the longest they allow."""

_TOKEN_BYTES = 32
_TOKEN_LENGTH = 43
_PAGES = ("", "/", "/config")
"""Where a visit begins: a browser's page, and what `gradio_client` asks for first. A page's other requests run at the
same time and would each bring home another token."""


class Owner(str):
    """Whose conversations: the scope of everything that the chat reads and writes. Never empty.

    Pydantic AI takes `scope=None` for "anybody's", so an owner is a type of its own that can't be left out.
    """

    __slots__ = ()

    def __new__(cls, value: str) -> "Owner":
        if not value:
            raise ValueError("An owner can't be empty.")
        return super().__new__(cls, value)


def owner_of(connection: HTTPConnection) -> Owner | None:
    """The owner that a request acts for, or `None` for a browser that keeps no cookie."""
    token = _token(connection.headers)
    return None if token is None else Owner(f"visitor:{hashlib.sha256(token.encode()).hexdigest()}")


class VisitorCookie:
    """ASGI middleware that gives every new browser its token when it opens the page."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _begins_visit(scope) or _token(Headers(scope=scope)) is not None:
            await self.app(scope, receive, send)
            return
        cookie = _set_cookie(secrets.token_urlsafe(_TOKEN_BYTES), secure=_is_https(scope))

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append("set-cookie", cookie)
            await send(message)

        await self.app(scope, receive, send_with_cookie)


def _begins_visit(scope: Scope) -> bool:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")) in _PAGES


def _token(headers: Headers) -> str | None:
    # Unlike SimpleCookie it reads on after a cookie of another program on this host that is malformed.
    cookies = cookie_parser(headers.get("cookie", ""))
    for name in (SECURE_COOKIE, COOKIE):
        # The length refuses what a server of ours never gave out.
        if len(cookies.get(name, "")) == _TOKEN_LENGTH:
            return cookies[name]
    return None


def _is_https(scope: Scope) -> bool:
    # A forged header only changes how the forger's own cookie is kept.
    return scope["scheme"] == "https" or Headers(scope=scope).get("x-forwarded-proto", "").startswith("https")


def _set_cookie(token: str, *, secure: bool) -> str:
    # Over https the page may sit in another site's frame, as on Spaces: the cookie is then kept apart per site.
    name, policy = (SECURE_COOKIE, "SameSite=None; Secure; Partitioned") if secure else (COOKIE, "SameSite=Lax")
    return f"{name}={token}; Path=/; Max-Age={LIFETIME}; HttpOnly; {policy}"
