"""Who is asking: the one place where a request's owner is derived.

Every browser gets a random 256-bit token in a cookie that scripts can't read. The owner of what it writes is the
token's SHA-256, so that nobody who reads the database can come back as one of its visitors; or whoever signed in with
it (`chat.sessions`), which `chat.identify` finds out before a request is answered. Nothing else that a client sends (a
conversation's id, a session hash, a history) says anything about who it is.
"""

import hashlib
import secrets
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, cookie_parser
from starlette.types import Scope

COOKIE = "parley_visitor"
SECURE_COOKIE = f"__Host-{COOKIE}"
"""The name over https: browsers take a `__Host-` cookie only from the very host, over https, for all paths."""

LIFETIME = 400 * 24 * 3600
"""Seconds that browsers keep the cookie: the longest they allow."""

_TOKEN_BYTES = 32
_TOKEN_LENGTH = 43
_FOUND = "owner"
"""Where a request's state has its owner."""


class Owner(str):
    """Whose conversations: the scope of everything that the chat reads and writes. Never empty.

    Pydantic AI takes `scope=None` for "anybody's", so an owner is a type of its own that can't be left out.

    `address` says where a visitor asks from who has not signed in, for `chat.limits`: such an owner costs nothing. It
    makes no difference to who it is, and is never stored.
    """

    __slots__ = ("address",)
    address: str

    def __new__(cls, value: str, address: str = "") -> "Owner":
        if not value:
            raise ValueError("An owner can't be empty.")
        owner = super().__new__(cls, value)
        owner.address = address
        return owner


def owner_of(connection: HTTPConnection) -> Owner | None:
    """The owner that a request acts for, or `None` for a browser that keeps no cookie."""
    state: MutableMapping[str, Any] = connection.scope.get("state", {})
    if _FOUND in state:
        return state[_FOUND]
    token = token_of(connection)
    return None if token is None else visitor(token)


def set_owner(scope: Scope, owner: Owner | None) -> None:
    """Say for whom a request acts, once it is found out."""
    scope.setdefault("state", {})[_FOUND] = owner


def visitor(token: str, address: str = "") -> Owner:
    """The owner of what is written by a browser with this token that nobody has signed in with."""
    return Owner(f"visitor:{hashlib.sha256(token.encode()).hexdigest()}", address)


def new_token() -> str:
    """A token that nobody can guess."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def token_of(connection: HTTPConnection) -> str | None:
    """The token in a browser's cookie, if it has the form of one."""
    # Unlike SimpleCookie it reads on after a cookie of another program on this host that is malformed.
    cookies = cookie_parser(connection.headers.get("cookie", ""))
    for name in (SECURE_COOKIE, COOKIE):
        # The length refuses what a server of ours never gave out.
        if len(cookies.get(name, "")) == _TOKEN_LENGTH:
            return cookies[name]
    return None


def is_https(scope: Scope) -> bool:
    """Whether the browser came over https, maybe through a proxy that did not."""
    # A forged header only changes how the forger's own cookie is kept.
    return scope["scheme"] == "https" or Headers(scope=scope).get("x-forwarded-proto", "").startswith("https")


def set_cookie(scope: Scope, token: str) -> str:
    """The header that gives a browser its token, in answer to the request of this scope."""
    secure = is_https(scope)
    # Over https the page may sit in another site's frame, as on Spaces: the cookie is then kept apart per site.
    name, policy = (SECURE_COOKIE, "SameSite=None; Secure; Partitioned") if secure else (COOKIE, "SameSite=Lax")
    return f"{name}={token}; Path=/; Max-Age={LIFETIME}; HttpOnly; {policy}"
