"""The search box above the list of conversations, and the route that it asks.

The page's script (`search.js`) asks at each pause in typing and shows the answer in the list's place. It is no Gradio
event, so that it waits in no queue, and what was asked before can be given up.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

import gradio as gr
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chat.identity import Owner
from chat.json_route import TooLarge, answer, body_of
from chat.runs import ConversationBusy, ConversationMissing, MessageMissing
from chat.search import LONGEST_QUERY, Found
from chat.services import Services
from chat.snippet import Piece
from chat.view import conversation_id_from

SEARCH_ROUTE = "/parley/search"
OPEN_ROUTE = "/parley/search/open"

LARGEST_REQUEST = 100_000
"""Bytes of a request: more than the longest query in any encoding, and more than a page sends."""

_REFUSALS: dict[type[Exception], int] = {ConversationMissing: 404, ConversationBusy: 409, ValueError: 400}

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

    services: Services = request.state.services

    async def found(owner: Owner) -> dict[str, Any]:
        [query] = await _fields(request, "query")
        return {"conversations": list(map(_json, await services.search.find(owner, query)))}

    return await answer(request, found, _REFUSALS)


async def open_found(request: Request) -> Response:
    """Have the owner's `conversation` show the version that an `entry` is in, before a page opens it there.

    404 for what is missing and for what is somebody else's; 409 while a reply is being written in another version.
    """

    services: Services = request.state.services

    async def opened(owner: Owner) -> dict[str, Any]:
        conversation, entry = await _fields(request, "conversation", "entry")
        try:
            await services.versions.show(owner, conversation_id_from(conversation) or "", entry)
        except MessageMissing as error:
            raise ConversationMissing from error
        return {}

    return await answer(request, opened, _REFUSALS)


ROUTES = [
    Route(SEARCH_ROUTE, search, methods=["POST"]),  # The words are not in the address, which proxies write down.
    Route(OPEN_ROUTE, open_found, methods=["POST"]),
]


async def _fields(request: Request, *names: str) -> list[str]:
    """The texts of these names in the request's body.

    Raises:
        ValueError: If it has none of such a name.
    """
    try:
        sent = json.loads(await body_of(request, LARGEST_REQUEST))
    except TooLarge as error:
        raise ValueError(f"A search may have at most {LARGEST_REQUEST:,} bytes. Search for fewer words.") from error
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
