"""What programs can call by name, with typed arguments and answers that are models.

`chat.api_events` offers these to `gradio_client`, and `chat.mcp_tools` to other agents. Those that answer with a reply
tell all of it each time it has grown; the last one is how it ended.
"""

import base64
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, Field, create_model

from chat import api
from chat.api_schema import (
    LONGEST_NAME,
    About,
    Conversation,
    Exported,
    Findings,
    ListedConversation,
    Listing,
    Position,
    Problem,
    Reply,
    Stopped,
    Uploaded,
)
from chat.decisions import MOST_DECISIONS, Decision
from chat.exports import Form
from chat.library import PAGE, Place
from chat.listing import Change
from chat.render import LONGEST_PROMPT
from chat.runs import Run
from chat.search import LONGEST_QUERY

LARGEST_EXPORT = 10_000_000
"""Bytes of an export that is answered as JSON. Over HTTP larger ones are sent in pieces."""

TOO_LARGE = f"This export has more than {LARGEST_EXPORT // 1_000_000} MB. Get it over HTTP: see docs/api.md."

Name = Annotated[str, Field(max_length=LONGEST_NAME)]


class ReplyUnknown(Exception):
    """A reply that can't be told, though it was written. The message says why."""


async def about(caller: api.Caller) -> About:
    """What this chat is, and which models can be chosen."""
    return api.about(caller.services, caller.agent)


async def list_conversations(
    caller: api.Caller, after: Name | None = None, archived: bool = False, limit: int = PAGE
) -> Listing:
    """A page of the list of conversations. `after` is the `more` of the page before."""
    return await api.conversations(caller, after=after, archived=archived, limit=limit)


async def read(
    caller: api.Caller, conversation: str, before: Position | None = None, limit: int = api.MESSAGES
) -> Conversation:
    """A conversation with its newest messages, or those before a position: `before` is its `earlier`."""
    return await api.read(caller, conversation, before=before, limit=limit)


async def send(
    caller: api.Caller,
    text: Annotated[str, Field(max_length=LONGEST_PROMPT)],
    conversation: str | None = None,
    model: Name | None = None,
    files: Uploaded | None = None,
) -> AsyncIterator[Reply]:
    """Send a message, with files that were uploaded, to a conversation or to a new one, and get its reply."""
    run = await api.send(caller, text, conversation=conversation, model=model, files=files or ())
    async for reply in _told(caller, run):
        yield reply


async def follow(caller: api.Caller, conversation: str) -> AsyncIterator[Reply]:
    """The newest reply of a conversation, also while it is written."""
    run = await api.running(caller, conversation)
    if run is None:
        yield _known(await api.newest_reply(caller, conversation))
        return
    async for reply in _told(caller, run):
        yield reply


async def decide(
    caller: api.Caller,
    conversation: str,
    token: Name,
    decisions: Annotated[list[Decision], Field(max_length=MOST_DECISIONS)],
) -> AsyncIterator[Reply]:
    """Decide about all calls that wait, and get the reply that goes on."""
    async for reply in _told(caller, await api.decide(caller, conversation, token, decisions)):
        yield reply


async def stop(caller: api.Caller, conversation: str) -> Stopped:
    """End the reply that is being written. What it has is kept."""
    return Stopped(stopped=await api.stop(caller, conversation))


async def search(caller: api.Caller, query: Annotated[str, Field(max_length=LONGEST_QUERY)]) -> Findings:
    """The conversations that have all words of a query in their title or in one message."""
    return await api.search(caller, query)


async def rename(caller: api.Caller, conversation: str, title: str) -> ListedConversation | None:
    """Give a conversation a title."""
    return await api.change(caller, conversation, Change(title=title))


async def move(caller: api.Caller, conversation: str, place: Place) -> ListedConversation | None:
    """Pin a conversation, archive it, or list it as the others."""
    return await api.change(caller, conversation, Change(place=place))


async def delete(caller: api.Caller, conversation: str) -> ListedConversation | None:
    """Delete a conversation. It can be restored for a minute."""
    return await api.change(caller, conversation, Change(deleted=True))


async def restore(caller: api.Caller, conversation: str) -> ListedConversation | None:
    """Take back a deletion."""
    return await api.change(caller, conversation, Change(deleted=False))


async def export(caller: api.Caller, conversation: str, form: Form = "json") -> Exported:
    """A conversation as a file: lossless JSON, Markdown (in a zip when files belong to it), or a test case."""
    exported = await api.export(caller, conversation, form)
    content = bytearray()
    async with aclosing(exported.pieces) as pieces:
        async for piece in pieces:
            content += piece
            if len(content) > LARGEST_EXPORT:
                raise api.Unusable(TOO_LARGE)
    try:
        return Exported(name=exported.name, media_type=exported.media_type, text=content.decode())
    except UnicodeDecodeError:
        return Exported(name=exported.name, media_type=exported.media_type, base64=base64.b64encode(content).decode())


async def _told(caller: api.Caller, run: Run) -> AsyncGenerator[Reply]:
    async with aclosing(api.growing(caller, run)) as replies:
        async for reply in replies:
            if reply is not None:
                yield _known(reply)


def _known(reply: Reply | Problem | None) -> Reply:
    if isinstance(reply, Reply):
        return reply
    raise ReplyUnknown(api.CHANGED if reply is None else reply.error)


ENDPOINTS: dict[str, Callable[..., Any]] = {
    "about": about,
    "list": list_conversations,
    "read": read,
    "send": send,
    "follow": follow,
    "decide": decide,
    "stop": stop,
    "search": search,
    "rename": rename,
    "move": move,
    "delete": delete,
    "restore": restore,
    "export": export,
}
"""The endpoints by their names, without the slash."""


def arguments_of(function: Callable[..., Any]) -> type[BaseModel]:
    """The arguments of one of these as a model, which checks what a program sent; all but the caller."""
    hints = get_type_hints(function, include_extras=True)
    parameters = list(signature(function).parameters.values())[1:]
    fields: dict[str, Any] = {
        each.name: (hints[each.name], ... if each.default is each.empty else each.default) for each in parameters
    }
    return create_model(function.__name__, **fields)


def with_signature(
    wrapper: Callable[..., Any], function: Callable[..., Any], first: Parameter, shown: Callable[[Any], Any]
) -> Callable[..., Any]:
    """A wrapper that is described as one of these: its name, its description and its types.

    Args:
        wrapper: What is called.
        function: What it does.
        first: What the wrapper takes in the caller's place.
        shown: How a type is shown.
    """
    hints = get_type_hints(function, include_extras=True)
    _, *parameters = signature(function).parameters.values()
    described = [first, *(each.replace(annotation=shown(hints[each.name])) for each in parameters)]
    wrapper.__name__, wrapper.__doc__ = function.__name__, function.__doc__
    wrapper.__annotations__ = {each.name: each.annotation for each in described} | {"return": shown(hints["return"])}
    # What is not declared as an attribute of a function is one all the same, and where `inspect` looks first.
    wrapper.__signature__ = Signature(described, return_annotation=wrapper.__annotations__["return"])  # type: ignore[attr-defined]
    return wrapper
