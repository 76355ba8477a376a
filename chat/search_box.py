"""The search box above the list of conversations, and the route that it asks.

The page's script (`search.js`) asks at each pause in typing and shows the answer in the list's place. It is no Gradio
event, so that it waits in no queue, and what was asked before can be given up.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any, cast

import gradio as gr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from chat.database import DatabaseError
from chat.identity import Owner, owner_of
from chat.runs import ConversationBusy, ConversationMissing, MessageMissing
from chat.search import LONGEST_QUERY, Found
from chat.services import Services
from chat.snippet import Piece
from chat.view import conversation_id_from

SEARCH_ROUTE = "/parley/search"
OPEN_ROUTE = "/parley/search/open"

LARGEST_REQUEST = 100_000
"""Bytes of a request: more than the longest query in any encoding, and more than a page sends."""

_BOX = f"""
<form role="search">
  <input type="search" placeholder="Search" aria-label="Search your conversations" maxlength="{LONGEST_QUERY}"
    autocomplete="off" spellcheck="false" enterkeyhint="search">
</form>
<div role="status" class="said"></div>
<nav aria-label="Found conversations" hidden></nav>
"""


def render_search() -> None:
    """Put the search box on the page. What it finds is shown below it."""
    gr.HTML(
        value="",
        # The script makes what is in it, as text: what a person wrote never becomes markup.
        html_template=_BOX,
        apply_default_css=False,
        js_on_load="parleySearch.start(element)",
        elem_id="search",
    )


async def search(request: Request) -> Response:
    """What the owner's conversations hold of the words in `query`, the one field of the request's body.

    Answers `conversations`, each with `id`, `title`, `at` (when it was last active, ISO 8601) and `hits`, each with
    `entry` and `snippet`. A title and a snippet are pieces of text, each with `marked`.
    """

    async def found(owner: Owner, services: Services) -> dict[str, Any]:
        [query] = await _fields(request, "query")
        return {"conversations": list(map(_json, await services.search.find(owner, query)))}

    return await _answer(request, found)


async def open_found(request: Request) -> Response:
    """Have the owner's `conversation` show the version that an `entry` is in, before a page opens it there.

    404 for what is missing and for what is somebody else's; 409 while a reply is being written in another version.
    """

    async def opened(owner: Owner, services: Services) -> dict[str, Any]:
        conversation, entry = await _fields(request, "conversation", "entry")
        await services.versions.show(owner, conversation_id_from(conversation) or "", entry)
        return {}

    return await _answer(request, opened)


ROUTES = [
    Route(SEARCH_ROUTE, search, methods=["POST"]),  # The words are not in the address, which proxies write down.
    Route(OPEN_ROUTE, open_found, methods=["POST"]),
]


async def _answer(request: Request, act: Callable[[Owner, Services], Awaitable[dict[str, Any]]]) -> Response:
    owner = owner_of(request)
    if owner is None:
        return _error(403, "Your browser keeps no cookies for this page. Allow them.")
    try:
        return JSONResponse(await act(owner, request.state.services), headers={"cache-control": "no-store"})
    except (ConversationMissing, MessageMissing):
        return _error(404, str(ConversationMissing()))
    except ConversationBusy as error:
        return _error(409, str(error))
    except ValueError as error:
        return _error(400, str(error))
    except DatabaseError as error:
        return _error(503, str(error))


async def _fields(request: Request, *names: str) -> list[str]:
    """The texts of these names in the request's body.

    Raises:
        ValueError: If it has none of such a name.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_REQUEST:
            raise ValueError(f"A search may have at most {LARGEST_REQUEST:,} bytes. Search for fewer words.")
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError('This search can\'t be read. Send {"query": "..."} as JSON.') from error
    fields = cast("dict[str, object]", sent) if isinstance(sent, dict) else {}
    texts = [value for name in names if isinstance(value := fields.get(name), str)]
    if len(texts) < len(names):
        raise ValueError(f"This search is not complete. Send a JSON object with {' and '.join(names)}, each a text.")
    return texts


def _json(found: Found) -> dict[str, Any]:
    return {
        "id": found.conversation_id,
        "title": _pieces(found.title),
        "at": found.updated_at.isoformat(),
        "hits": [{"entry": hit.entry_id, "snippet": _pieces(hit.snippet)} for hit in found.hits],
    }


def _pieces(pieces: Sequence[Piece]) -> list[dict[str, Any]]:
    return [asdict(piece) for piece in pieces]


def _error(status: int, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status, headers={"cache-control": "no-store"})
