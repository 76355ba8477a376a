"""Visitors of the chat's own routes, in the test's process: real services, real requests, no server."""

import hashlib
from collections.abc import Sequence

import httpx
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from chat.identity import Owner
from chat.services import Services

ANNA, BEN = "A" * 43, "B" * 43
"""The tokens in two visitors' cookies."""


def owner(token: str) -> Owner:
    return Owner(f"visitor:{hashlib.sha256(token.encode()).hexdigest()}")


def visitor_of(services: Services, routes: Sequence[Route], token: str | None = ANNA) -> httpx.AsyncClient:
    """A client with a visitor's cookie."""
    app = Starlette(routes=routes)

    async def with_services(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": {"services": services}}, receive, send)

    cookies = {} if token is None else {"parley_visitor": token}
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(with_services), base_url="http://chat.example", cookies=cookies
    )
