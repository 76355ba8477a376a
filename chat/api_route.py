"""The chat for programs that speak HTTP: JSON in and out, and replies as server-sent events while they are written.

`docs/api.md` shows how it is used; `/parley/api/openapi.json` describes it, made of `chat.api_schema`.
"""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Mount, Route

from chat import api
from chat.api_schema import (
    LONGEST_NAME,
    About,
    Conversation,
    Decided,
    Findings,
    ListedConversation,
    Listing,
    Position,
    Problem,
    Prompt,
    Reply,
    ReplyEvent,
    SearchQuery,
    Started,
    StepBegun,
    Stopped,
    TextSoFar,
)
from chat.database import DatabaseError
from chat.decisions import DecisionRefused
from chat.export_route import download
from chat.exports import Form
from chat.library import PAGE
from chat.limits import LimitReached
from chat.listing import Change, ChangeRefused
from chat.render import PromptRefused
from chat.runs import ConversationBusy, ConversationMissing, Run, ShuttingDown

API = "/parley/api"

EVENTS = "text/event-stream"

METHOD_NOT_ALLOWED = 405

STATUS: dict[type[Exception], int] = {
    api.NoVisitor: 403,
    ConversationMissing: 404,
    ConversationBusy: 409,
    DecisionRefused: 409,
    ChangeRefused: 422,
    PromptRefused: 422,
    api.Unusable: 422,
    LimitReached: 429,
    ShuttingDown: 503,
    DatabaseError: 503,
}
"""What is answered when something can't be done, with its sentence as `error`."""

_NAMES: dict[type[BaseModel], str] = {
    Started: "started",
    TextSoFar: "text",
    StepBegun: "step",
    Reply: "done",
    Problem: "error",
}
"""What the events of a reply are called."""

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem} for status in (400, *sorted({*STATUS.values()} - {404, 409, 429}))
}
_MISSING: dict[int | str, dict[str, Any]] = {404: {"model": Problem}}
_LIMITED: dict[int | str, dict[str, Any]] = {429: {"model": Problem}}
_BUSY: dict[int | str, dict[str, Any]] = {409: {"model": Problem}}
_STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"content": {EVENTS: {"schema": {"type": "string"}}}, "description": "The reply, or its events."}
}

Caller = Annotated[api.Caller, Depends(api.caller_of)]
Limited = Annotated[str, Query(max_length=LONGEST_NAME)]
BY_ID = "/conversations/{conversation}"

router = APIRouter(responses=_PROBLEMS)


@router.get("/about")
async def about(request: Request) -> About:
    """What this chat is. Gives a program that has none the cookie that says which conversations are its own."""
    return api.about(request.state.services, request.state.agent)


@router.get("/conversations")
async def list_conversations(
    caller: Caller,
    after: Limited | None = None,
    archived: bool = False,
    limit: Annotated[int, Query(ge=1, le=PAGE)] = PAGE,
) -> Listing:
    """A page of the list of conversations. `after` is the `more` of the page before."""
    return await api.conversations(caller, after=after, archived=archived, limit=limit)


@router.post("/conversations", responses={**_STREAMED, **_LIMITED}, response_model=Reply)
async def begin_conversation(caller: Caller, prompt: Prompt, request: Request) -> Response:
    """Send a message that begins a conversation. Answers when the reply is complete, or with its events."""
    return await _reply(caller, await api.send(caller, prompt.text, model=prompt.model, files=prompt.files), request)


@router.get(BY_ID, responses=_MISSING)
async def read_conversation(
    caller: Caller,
    conversation: str,
    before: Annotated[Position | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=api.MOST_MESSAGES)] = api.MESSAGES,
) -> Conversation:
    """A conversation with its newest messages, or those before a position: `before` is its `earlier`."""
    return await api.read(caller, conversation, before=before, limit=limit)


@router.patch(BY_ID, responses={**_MISSING, **_BUSY})
async def change_conversation(caller: Caller, conversation: str, change: Change) -> ListedConversation | None:
    """Rename, move, delete or restore a conversation. One that was deleted can be restored for a minute."""
    return await api.change(caller, conversation, change)


@router.delete(BY_ID, responses={**_MISSING, **_BUSY}, status_code=204)
async def delete_conversation(caller: Caller, conversation: str) -> None:
    """Delete a conversation. `{"deleted": false}` restores it for a minute."""
    await api.change(caller, conversation, Change(deleted=True))


@router.post(f"{BY_ID}/messages", responses={**_STREAMED, **_MISSING, **_BUSY, **_LIMITED}, response_model=Reply)
async def send_message(caller: Caller, conversation: str, prompt: Prompt, request: Request) -> Response:
    """Send a message. Calls that wait for a decision are denied. Answers as a conversation's first message does."""
    run = await api.send(caller, prompt.text, conversation=conversation, model=prompt.model, files=prompt.files)
    return await _reply(caller, run, request)


@router.get(f"{BY_ID}/reply", responses={**_STREAMED, **_MISSING}, response_model=Reply)
async def follow_reply(caller: Caller, conversation: str, request: Request) -> Response:
    """The newest reply, from its beginning on: also one that somebody else of the same owner asked for."""
    run = await api.running(caller, conversation)
    if run is not None:
        return await _reply(caller, run, request)
    return _answer(request, await api.newest_reply(caller, conversation))


@router.post(f"{BY_ID}/decisions", responses={**_STREAMED, **_MISSING, **_BUSY, **_LIMITED}, response_model=Reply)
async def decide(caller: Caller, conversation: str, decided: Decided, request: Request) -> Response:
    """Decide about all calls that wait. The reply goes on, and is answered as to a message."""
    run = await api.decide(caller, conversation, decided.token, decided.decisions)
    return await _reply(caller, run, request)


@router.post(f"{BY_ID}/stop", responses=_MISSING)
async def stop_reply(caller: Caller, conversation: str) -> Stopped:
    """End the reply that is being written. What it has is kept."""
    return Stopped(stopped=await api.stop(caller, conversation))


@router.get(
    f"{BY_ID}/export",
    response_class=Response,
    responses={
        **_MISSING,
        200: {
            "content": {
                media: {} for media in ("application/json", "application/yaml", "text/markdown", "application/zip")
            }
        },
    },
)
async def export_conversation(
    caller: Caller, conversation: str, form: Annotated[Form, Query(alias="as")] = "json"
) -> Response:
    """A conversation as a file: lossless JSON, Markdown (in a zip when files belong to it), or a test case."""
    return download(await api.export(caller, conversation, form))


@router.post("/search")
async def search(caller: Caller, query: SearchQuery) -> Findings:
    """The conversations that have all words of a query in their title or in one message."""
    return await api.search(caller, query.query)


async def _reply(caller: api.Caller, run: Run, request: Request) -> Response:
    """The events of a reply to whoever accepts them; to others the whole of it when it has ended."""
    if EVENTS in request.headers.get("accept", ""):
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(_lines(caller, run), media_type=EVENTS, headers=headers)
    await run.ends_within()
    return _whole(await api.result(caller, run))


def _answer(request: Request, reply: Reply | None) -> Response:
    if EVENTS in request.headers.get("accept", "") and reply is not None:
        return Response(_line(reply), media_type=EVENTS, headers={"cache-control": "no-store"})
    return _whole(reply)


def _whole(reply: Reply | None) -> Response:
    if reply is None:
        return _problem(409, api.CHANGED)
    return Response(reply.model_dump_json(), media_type="application/json", headers={"cache-control": "no-store"})


async def _lines(caller: api.Caller, run: Run) -> AsyncGenerator[str, None]:
    async with aclosing(api.follow(caller, run)) as events:
        async for event in events:
            yield _line(event)


def _line(event: ReplyEvent) -> str:
    return ":\n\n" if event is None else f"event: {_NAMES[type(event)]}\ndata: {event.model_dump_json()}\n\n"


def _problem(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status, headers={"cache-control": "no-store"})


def _sentence(error: RequestValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    return f"This request can't be used{f': {place}' if place else ''}: {first['msg'].removesuffix('.')}."


async def _say_invalid(request: Request, error: Exception) -> Response:
    return _problem(422, _sentence(error)) if isinstance(error, RequestValidationError) else _problem(400, str(error))


async def _say_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    answer = _problem(error.status_code, f"{error.detail.removesuffix('.')}.")
    answer.headers.update(error.headers or {})
    if error.status_code == METHOD_NOT_ALLOWED:
        answer.headers["allow"] = ", ".join(sorted(_methods(request)))
    return answer


def _methods(request: Request) -> set[str]:
    """What can be done at a path: its routes are one for each method, of which Starlette names those of the first."""
    return {
        method
        for route in router.routes
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods or ()
    }


async def _say_expected(request: Request, error: Exception) -> Response:
    status = next(status for kind, status in STATUS.items() if isinstance(error, kind))
    return _problem(status, str(error))


def _app() -> FastAPI:
    app = FastAPI(title="Parley", version="1", docs_url=None, redoc_url=None)
    app.include_router(router)
    app.add_exception_handler(RequestValidationError, _say_invalid)
    app.add_exception_handler(HTTPException, _say_http)
    for kind in STATUS:
        app.add_exception_handler(kind, _say_expected)
    return app


def _mounted() -> Mount:
    mount = Mount(API, _app())
    # A path may hold a line break, where the `.` of Starlette's own pattern ends.
    mount.path_regex = re.compile(mount.path_regex.pattern, re.DOTALL)
    return mount


API_ROUTES: list[BaseRoute] = [_mounted()]
