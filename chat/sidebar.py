"""The sidebar: an owner's conversations by day, and what can be done with each of them.

The page's script (`sidebar.js`) shows them. It gets them here as JSON: pages of the list, single ones that an
announcement named, and the answer to a change. Nothing here is a Gradio event, so that nothing waits in its queue and
the answers to several changes at once don't replace each other.

What else can be done with a conversation, such as to export it, is an entry in `menu` of `sidebar.js`, and a route or
an event of its own; another script adds one with `parleySidebar.menu.splice(-1, 0, { label, act })`, above Delete. What
belongs above the list, as the search box does, is rendered in `render_sidebar` between the button and the list.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import gradio as gr
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chat.identity import Owner
from chat.json_route import TooLarge, answer, body_of
from chat.library import Listed, Mark
from chat.listing import LARGEST_CHANGE, Change, ChangeRefused, make_change, sign_of
from chat.runs import ConversationBusy, ConversationMissing
from chat.search_box import render_search
from chat.services import Services
from chat.view import conversation_id_from

LIST_ROUTE = "/parley/conversations"
CHANGE_ROUTE = "/parley/conversations/{conversation:path}"

MOST_NAMED = 100
"""Conversations that are asked for by their ids at once."""

WIDTH = 280
"""Pixels."""


class Unreadable(Exception):
    """A request of which no sense can be made."""

    def __init__(self, reason: object) -> None:
        super().__init__(f"This request can't be read: {str(reason).rstrip('.')}.")


_REFUSALS: dict[type[Exception], int] = {
    ConversationMissing: 404,
    ChangeRefused: 409,
    ConversationBusy: 409,
    Unreadable: 400,
}


def render_sidebar(*, signs_in: bool) -> None:
    """Put the sidebar on the page, closed: its script opens it where there is room.

    Args:
        signs_in: Whether people can sign in, and out at its end.
    """
    with gr.Sidebar(width=WIDTH, open=False, elem_id="library"):
        new = gr.Button("New chat", variant="secondary", elem_id="new-chat")
        new.click(None, None, None, js="() => parley.open(null)", api_visibility="private")
        render_search()
        gr.HTML(
            value="",
            # The script makes what is in it, as text: what a person wrote never becomes markup.
            html_template="<div class='list'><nav aria-label='Conversations'></nav></div>",
            apply_default_css=False,
            js_on_load="parleySidebar.start(element, trigger)",
            elem_id="conversations",
        )
        if signs_in:
            gr.HTML(
                value="",
                html_template="<section aria-label='Account'></section>",
                apply_default_css=False,
                js_on_load="parleyAccount.start(element)",
                elem_id="account",
            )


async def list_conversations(request: Request) -> Response:
    """A page of the owner's conversations as JSON, or those that `id` names, as far as the owner has them.

    `archived` asks for the archived ones; `after` is the `more` of the page before. Answers `conversations`, each with
    `id`, `title`, `at` (when it was last active, ISO 8601), `place` and `sign` (`writing`, `waiting`, `unread` or
    none), and `more`, which is none at the end.
    """

    services: Services = request.state.services

    async def listed(owner: Owner) -> dict[str, Any]:
        named = [conversation_id_from(value) for value in request.query_params.getlist("id")[:MOST_NAMED]]
        if named:
            found, mark = await services.library.find(owner, [name for name in named if name]), None
        else:
            archived = bool(request.query_params.get("archived"))
            found, mark = await services.library.conversations(owner, after=_after(request), archived=archived)
        return {"conversations": _json(services, owner, found), "more": mark and str(mark)}

    return await _answer(request, listed)


async def change_conversation(request: Request) -> Response:
    """Rename, move, delete or restore a conversation: the request's body has one field of `Change`.

    Answers the conversation as it is listed then; nothing when it was deleted. 404 for what is missing and for what is
    somebody else's.
    """

    services: Services = request.state.services

    async def changed(owner: Owner) -> dict[str, Any]:
        conversation_id = conversation_id_from(request.path_params["conversation"]) or ""
        if not await make_change(services, owner, conversation_id, await _change(request)):
            raise ConversationMissing
        found = await services.library.find(owner, [conversation_id])
        return {"conversations": _json(services, owner, found)}

    return await _answer(request, changed)


ROUTES = [
    Route(LIST_ROUTE, list_conversations, methods=["GET"]),
    Route(CHANGE_ROUTE, change_conversation, methods=["PATCH"]),
]


async def _answer(request: Request, act: Callable[[Owner], Awaitable[dict[str, Any]]]) -> Response:
    async def readable(owner: Owner) -> dict[str, Any]:
        try:
            return await act(owner)
        except ValueError as error:
            raise Unreadable(error) from error

    return await answer(request, readable, _REFUSALS)


async def _change(request: Request) -> Change:
    try:
        return Change.model_validate(json.loads(await body_of(request, LARGEST_CHANGE)))
    except TooLarge as error:
        raise ChangeRefused(f"A change may have at most {LARGEST_CHANGE:,} bytes. Use a shorter title.") from error
    except ValidationError as error:
        raise ValueError(error.errors(include_url=False)[0]["msg"]) from error
    except RecursionError as error:
        raise ValueError("It is nested too deeply.") from error


def _after(request: Request) -> Mark | None:
    after = request.query_params.get("after")
    return Mark.from_page(after) if after else None


def _json(services: Services, owner: Owner, found: list[Listed]) -> list[dict[str, Any]]:
    writing = services.runs.writing(owner)
    return [
        {
            "id": listed.conversation_id,
            "title": listed.title,
            "at": listed.updated_at.isoformat(),
            "place": listed.place,
            "sign": sign_of(listed, writing),
        }
        for listed in found
    ]
