"""The chat for programs that use `gradio_client`: named endpoints with typed arguments, which answer with JSON.

They do what `chat.api_route` does over HTTP. A caller is who its cookie says, as a page is: see `docs/api.md`.
"""

import base64
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import aclosing, contextmanager
from dataclasses import is_dataclass
from datetime import datetime
from functools import wraps
from inspect import isasyncgenfunction, isclass, signature
from types import UnionType
from typing import Annotated, Any, TypedDict, Union, cast, get_args, get_origin, get_type_hints

import gradio as gr
from pydantic import BaseModel, ConfigDict, Field, ValidationError, validate_call
from starlette.requests import Request

from chat import api
from chat.api_route import STATUS
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


async def about(request: gr.Request) -> About:
    """What this chat is, and which models can be chosen."""
    caller = _caller(request)
    return api.about(caller.services, caller.agent)


async def list_conversations(
    request: gr.Request, after: Name | None = None, archived: bool = False, limit: int = PAGE
) -> Listing:
    """A page of the list of conversations. `after` is the `more` of the page before."""
    return await api.conversations(_caller(request), after=after, archived=archived, limit=limit)


async def read(
    request: gr.Request, conversation: str, before: Position | None = None, limit: int = api.MESSAGES
) -> Conversation:
    """A conversation with its newest messages, or those before a position: `before` is its `earlier`."""
    return await api.read(_caller(request), conversation, before=before, limit=limit)


async def send(
    request: gr.Request,
    text: Annotated[str, Field(max_length=LONGEST_PROMPT)],
    conversation: str | None = None,
    model: Name | None = None,
) -> AsyncIterator[Reply]:
    """Send a message to a conversation, or to a new one, and get its reply as it grows; the last one is complete."""
    caller = _caller(request)
    async for reply in _told(caller, await api.send(caller, text, conversation=conversation, model=model)):
        yield reply


async def follow(request: gr.Request, conversation: str) -> AsyncIterator[Reply]:
    """The newest reply of a conversation: as it grows while it is written, else as it is."""
    caller = _caller(request)
    run = await api.running(caller, conversation)
    if run is None:
        yield _known(await api.newest_reply(caller, conversation) or Problem(error=api.CHANGED))
        return
    async for reply in _told(caller, run):
        yield reply


async def decide(
    request: gr.Request,
    conversation: str,
    token: Name,
    decisions: Annotated[list[Decision], Field(max_length=MOST_DECISIONS)],
) -> AsyncIterator[Reply]:
    """Decide about all calls that wait, and get the reply as it goes on; the last one is complete."""
    caller = _caller(request)
    async for reply in _told(caller, await api.decide(caller, conversation, token, decisions)):
        yield reply


async def stop(request: gr.Request, conversation: str) -> Stopped:
    """End the reply that is being written. What it has is kept."""
    return Stopped(stopped=await api.stop(_caller(request), conversation))


async def search(request: gr.Request, query: Annotated[str, Field(max_length=LONGEST_QUERY)]) -> Findings:
    """The conversations that have all words of a query in their title or in one message."""
    return await api.search(_caller(request), query)


async def rename(request: gr.Request, conversation: str, title: str) -> ListedConversation | None:
    """Give a conversation a title."""
    return await api.change(_caller(request), conversation, Change(title=title))


async def move(request: gr.Request, conversation: str, place: Place) -> ListedConversation | None:
    """Pin a conversation, archive it, or list it as the others."""
    return await api.change(_caller(request), conversation, Change(place=place))


async def delete(request: gr.Request, conversation: str) -> ListedConversation | None:
    """Delete a conversation. It can be restored for a minute."""
    return await api.change(_caller(request), conversation, Change(deleted=True))


async def restore(request: gr.Request, conversation: str) -> ListedConversation | None:
    """Take back a deletion."""
    return await api.change(_caller(request), conversation, Change(deleted=False))


async def export(request: gr.Request, conversation: str, form: Form = "json") -> Exported:
    """A conversation as a file: lossless JSON, Markdown (in a zip when files belong to it), or a test case."""
    exported = await api.export(_caller(request), conversation, form)
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


def add_endpoints() -> None:
    """Offer them, in the `gr.Blocks` that are open."""
    for name, function in ENDPOINTS.items():
        gr.api(_offered(function), api_name=name, concurrency_limit=None)  # pyright: ignore[reportUnknownMemberType, reportPrivateImportUsage]  # Gradio leaves it open


def _offered(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function as Gradio calls it: with arguments of any form, refusals that are told, and answers that are JSON."""
    checked = validate_call(config=ConfigDict(arbitrary_types_allowed=True))(function)
    offered = _growing(checked) if isasyncgenfunction(function) else _at_once(checked)
    # Gradio reads the types of both.
    offered.__annotations__ = {name: _json_type(hint) for name, hint in get_type_hints(function).items()}
    offered.__signature__ = signature(function).replace(return_annotation=offered.__annotations__["return"])
    return offered


def _at_once(checked: Callable[..., Any]) -> Any:
    @wraps(checked)
    async def answer(*arguments: object) -> Any:
        with _refusals():
            answered: BaseModel | None = await checked(*arguments)
        return None if answered is None else answered.model_dump(mode="json")

    return answer


def _growing(checked: Callable[..., Any]) -> Any:
    @wraps(checked)
    async def answer(*arguments: object) -> AsyncGenerator[Any]:
        with _refusals():
            answers: AsyncGenerator[BaseModel] = checked(*arguments)
            async with aclosing(answers):
                async for answered in answers:
                    yield answered.model_dump(mode="json")

    return answer


def _caller(request: gr.Request) -> api.Caller:
    return api.caller_of(cast("Request", request.request))


async def _told(caller: api.Caller, run: Run) -> AsyncGenerator[Reply]:
    async with aclosing(api.growing(caller, run)) as replies:
        async for reply in replies:
            if reply is not None:
                yield _known(reply)


def _known(reply: Reply | Problem) -> Reply:
    if isinstance(reply, Problem):
        raise gr.Error(reply.error, print_exception=False)
    return reply


@contextmanager
def _refusals() -> Generator[None]:
    """Tell the caller why something can't be done, in a sentence."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise gr.Error(f"This call can't be used: {place}: {first['msg']}.", print_exception=False) from None
    except tuple(STATUS) as error:
        raise gr.Error(str(error), print_exception=False) from None


def _json_type(hint: Any, *, inside: bool = False) -> Any:
    """A type as JSON has it. Gradio describes no models, nor what contains itself: what is inside them is left open."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is datetime:
        return str
    if origin is AsyncIterator:
        return _json_type(arguments[0])
    if origin in (Union, UnionType):
        return Union[tuple(_json_type(each, inside=inside) for each in arguments)]  # noqa: UP007  # of a tuple
    if origin is list:
        return list[_json_type(arguments[0], inside=True)]
    if not isclass(hint) or not (issubclass(hint, BaseModel) or is_dataclass(hint)):
        return hint
    if inside or not issubclass(hint, BaseModel):
        return dict[str, Any]
    fields = {name: _json_type(field.annotation, inside=True) for name, field in hint.model_fields.items()}
    return TypedDict(hint.__name__, fields)  # pyright: ignore[reportArgumentType]  # made of a model
