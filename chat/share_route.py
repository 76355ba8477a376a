"""Shared conversations on the web: an owner makes, lists and revokes links, and anybody with one reads."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from chat.database import DatabaseError
from chat.file_route import missing, send_file
from chat.files import StoredFile
from chat.identity import Owner, owner_of
from chat.json_route import NO_COOKIE
from chat.services import Services
from chat.shared_page import HEADERS, missing_page, shared_page
from chat.shares import ShareRefused
from chat.transcript import Shown
from chat.view import conversation_id_from

MOST_DIGITS = 9


async def create_share(request: Request) -> Response:
    """Share `conversation` as it is now, with `tools` and `thinking` where these are `1`. Answers the `path` of the
    link, from `/parley` on."""

    async def create(owner: Owner, services: Services) -> Response:
        asked = request.query_params
        shown = Shown(tools=asked.get("tools") == "1", thinking=asked.get("thinking") == "1")
        conversation = conversation_id_from(asked.get("conversation"))
        token = await services.shares.create(owner, conversation, shown) if conversation else None
        if token is None:
            return _said(404, "There is nothing to share in this conversation.")
        return _answer(200, {"path": f"/shared/{token}"})

    return await _for_owner(request, create)


async def list_shares(request: Request) -> Response:
    """The owner's `shares`, the newest first: `id`, `conversation`, `title`, `tools`, `thinking` and `at`."""

    async def listed(owner: Owner, services: Services) -> Response:
        shares = [
            {
                "id": share.id,
                "conversation": share.conversation_id,
                "title": share.title,
                "tools": share.shown.tools,
                "thinking": share.shown.thinking,
                "at": share.created_at.isoformat(),
            }
            for share in await services.shares.listed(owner)
        ]
        return _answer(200, {"shares": shares})

    return await _for_owner(request, listed)


async def revoke_share(request: Request) -> Response:
    """End a share. 404 for what is missing and for what is somebody else's."""

    async def revoke(owner: Owner, services: Services) -> Response:
        revoked = await services.shares.revoke(owner, request.path_params["share"])
        return _answer(200, {}) if revoked else _said(404, "This link is revoked already.")

    return await _for_owner(request, revoke)


async def show_share(request: Request) -> Response:
    """A page of a shared conversation, for anybody with its link; one and the same 404 for all that isn't shared."""
    services: Services = request.state.services
    token, name = request.path_params["token"], services.title
    asked = request.query_params.get("page", "0")
    number = int(asked) if asked.isascii() and asked.isdecimal() and len(asked) <= MOST_DIGITS else -1
    page = await services.shares.page(token, number)
    if page is None:
        return HTMLResponse(missing_page(name), 404, HEADERS)

    def address_of(entry_id: str, file: StoredFile) -> str:
        return f"{token}/files/{entry_id}/{file.id}"

    return HTMLResponse(await asyncio.to_thread(shared_page, page, name, address_of), 200, HEADERS)


async def serve_shared_file(request: Request) -> Response:
    """A file of a shared conversation, as long as it is shared."""
    services: Services = request.state.services
    content = await services.shares.file(**request.path_params)
    return missing() if content is None else await send_file(request, services.files, content, "no-cache")


SHARE_ROUTES = [
    Route("/parley/shares", list_shares, methods=["GET"]),
    Route("/parley/shares", create_share, methods=["POST"]),
    Route("/parley/shares/{share}/revoke", revoke_share, methods=["POST"]),
    Route("/parley/shared/{token}", show_share, methods=["GET"]),
    Route("/parley/shared/{token}/files/{entry_id}/{file_id}", serve_shared_file, methods=["GET"]),
]


async def _for_owner(request: Request, act: Callable[[Owner, Services], Awaitable[Response]]) -> Response:
    owner = owner_of(request)
    if owner is None:
        return _said(403, NO_COOKIE)
    try:
        return await act(owner, request.state.services)
    except ShareRefused as error:
        return _said(409, str(error))
    except DatabaseError as error:
        return _said(503, str(error))


def _said(status: int, sentence: str) -> Response:
    return _answer(status, {"said": sentence})


def _answer(status: int, content: object) -> Response:
    return JSONResponse(content, status, headers={"cache-control": "no-store"})
