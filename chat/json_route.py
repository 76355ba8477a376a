"""What the routes have in common that the page's scripts ask for JSON: who asks, how much, and how it is refused."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from chat.database import DatabaseError
from chat.identity import Owner, owner_of

NO_COOKIE = "Your browser keeps no cookies for this page. Allow them."


class TooLarge(Exception):
    """A request that has more bytes than it may."""


async def answer(
    request: Request, act: Callable[[Owner], Awaitable[dict[str, Any]]], refusals: Mapping[type[Exception], int]
) -> Response:
    """What `act` answers for the owner who asks, as JSON that nobody keeps; else a status and one sentence, `error`.

    Args:
        request: What is asked.
        act: Does it.
        refusals: The status that says each exception of `act`; its message is the sentence. 503 says that the database
            can't be used now.
    """
    owner = owner_of(request)
    if owner is None:
        return _json(403, {"error": NO_COOKIE})
    try:
        return _json(200, await act(owner))
    except (DatabaseError, *refusals) as error:
        status = next((status for kind, status in refusals.items() if isinstance(error, kind)), 503)
        return _json(status, {"error": str(error)})


async def body_of(request: Request, largest: int) -> bytes:
    """The request's body.

    Raises:
        TooLarge: As soon as it turns out to have more than `largest` bytes.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > largest:
            raise TooLarge
    return bytes(body)


def _json(status: int, content: dict[str, Any]) -> Response:
    return JSONResponse(content, status, headers={"cache-control": "no-store"})
