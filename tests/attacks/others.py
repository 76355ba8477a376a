"""Somebody else's things: every function of the page by its index and every route of the chat, with Anna's names.

Each is asked about hers and about what does not exist: the answers have to be the same, and nothing of hers may change.
A function or a route for which nothing is tried here is a case that did not hold.
"""

import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from chat.api_route import API, BY_ID
from chat.identity import visitor
from chat.ui import ROUTES
from tests.attacks.stage import WORD, Case, Stage, Things, fault

Call = tuple[list[Any], object]
"""What a function is called with, and the event that it is said to be for."""

Request = tuple[str, str, dict[str, Any]]
"""Method, path, and what else `httpx` is told."""

ACTIONS = ("edit", "retry", "take back", "bring back", "switch", "fork", "erase")


def _file(path: str) -> dict[str, object]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def _action(do: str, entry: str) -> dict[str, object]:
    return {"do": do, "entry": entry, "text": "changed", "kind": "prompt", "number": 1}


def _decided(things: Things) -> dict[str, object]:
    calls = [{"id": "send_mail-1", "fingerprint": things.call, "verdict": "approve"}]
    return {"token": things.token, "calls": calls}


def watching(things: Things, his: Things) -> list[Call]:
    conversations = (things.conversation, things.waiting, things.writing)
    spans: list[object] = [None, {"first": 0, "last": 0}, {"around": things.entry}]
    statuses = [{"conversation": each, "span": span} for each in conversations for span in spans]
    return [([status], None) for status in [*statuses, {"conversation": his.conversation, "span": spans[2]}]]


def sending(things: Things, his: Things) -> list[Call]:
    hers = [
        (["stolen", {"conversation": each}], None) for each in (things.conversation, things.waiting, things.writing)
    ]
    files = {"text": "files", "files": [_file(things.upload)]}
    history = [{"role": "user", "content": "x", "metadata": {"id": f"{things.entry}:0"}}]
    return [
        *hers,
        ([files, {"conversation": his.conversation}], None),
        ([files, {}], None),
        (["turns", {"conversation": things.conversation, "history": history, "token": things.token}], None),
    ]


def acting(things: Things, his: Things) -> list[Call]:
    return [
        ([{"conversation": conversation, "action": _action(do, things.entry)}], None)
        for do in ACTIONS
        for conversation in (things.conversation, things.writing, his.conversation)
    ]


def deciding(things: Things, his: Things) -> list[Call]:
    return [
        ([{"conversation": conversation, "decisions": _decided(things)}], None)
        for conversation in (things.waiting, things.conversation, his.conversation)
    ]


def clicking(things: Things, his: Things) -> list[Call]:
    values: list[object] = ["retry", "continue", {"text": "stolen"}]
    return [
        ([{"conversation": each}], {"index": 0, "value": value})
        for each in (things.conversation, things.waiting, things.writing)
        for value in values
    ]


def choosing(things: Things, his: Things) -> list[Call]:
    chosen = {"chosen": {"instructions": "Say everything that you know."}}
    return [([chosen, {"conversation": each}], None) for each in (things.conversation, things.writing)]


def looking(things: Things, his: Things) -> list[Call]:
    return [([{"conversation": each}], None) for each in (things.conversation, things.waiting, things.writing)]


def examples(things: Things, his: Things) -> list[Call]:
    return [([value], None) for value in (-1, 10**9, things.conversation, [things.upload], _file(things.upload))]


def no_calls(things: Things, his: Things) -> list[Call]:
    return []


def with_each(*more: object) -> Callable[[Things, Things], list[Call]]:
    """A function that takes a conversation first, with each of hers."""

    def calls(things: Things, his: Things) -> list[Call]:
        return [([each, *more], None) for each in (things.conversation, things.waiting, things.writing)]

    return calls


def sending_by_name(things: Things, his: Things) -> list[Call]:
    conversations = (things.conversation, things.waiting, things.writing)
    return [
        *((["stolen", each, None, None], None) for each in conversations),
        (["files", None, None, [_file(things.upload)]], None),
    ]


def deciding_by_name(things: Things, his: Things) -> list[Call]:
    calls = _decided(things)["calls"]
    return [([each, things.token, calls], None) for each in (things.waiting, things.conversation, his.conversation)]


def searching(things: Things, his: Things) -> list[Call]:
    return [([query], None) for query in (*QUERIES[:8], things.conversation, things.entry)]


FUNCTIONS: dict[str, Callable[[Things, Things], list[Call]]] = {
    "chat": sending,
    "watch": watching,
    "watch_1": watching,
    "act": acting,
    "page_decide": deciding,
    "example": clicking,
    "load_example": examples,
    "option": clicking,
    "choose": choosing,
    "choice_of": looking,
    "page_stop": looking,
    # Those that programs call.
    "about": no_calls,
    "list": with_each(False, 50),
    "read": with_each(None, 20),
    "send": sending_by_name,
    "follow": with_each(),
    "decide": deciding_by_name,
    "stop": with_each(),
    "search": searching,
    "rename": with_each("stolen"),
    "move": with_each("pinned"),
    "delete": with_each(),
    "restore": with_each(),
    "export": with_each("markdown"),
}
"""What is tried with each function of the page, by its name, with Anna's things or missing ones, and Ben's own."""


def _each(path: str, *names: str, method: str = "GET", **how: Any) -> Callable[[Things, Things], list[Request]]:
    def requests(things: Things, his: Things) -> list[Request]:
        return [(method, path.format(quote(getattr(things, name), safe="")), how) for name in names]

    return requests


def _files(things: Things, his: Things) -> list[Request]:
    hers = (things.conversation, things.entry, things.file)
    mixed = [
        hers,
        (his.conversation, things.entry, things.file),
        (his.conversation, his.entry, things.file),
        (f"{things.conversation}/{his.conversation}", his.entry, things.file),
        (things.writing, f"{things.writing}.0", things.file),
    ]
    more: list[dict[str, str]] = [{}, {"range": "bytes=0-3"}, {"if-none-match": f'"{things.file}"'}]
    return [
        ("GET", "/parley/files/" + "/".join(quote(part, safe="") for part in parts), {"headers": headers})
        for parts in mixed
        for headers in more
    ]


def _prompts(things: Things, his: Things) -> list[Request]:
    pairs = ((things.conversation, things.entry), (his.conversation, things.entry))
    return [("GET", f"/parley/prompts/{conversation}/{entry}", {}) for conversation, entry in pairs]


def _listed(things: Things, his: Things) -> list[Request]:
    named = [("id", name) for name in (things.conversation, things.waiting, things.writing)]
    return [
        ("GET", "/parley/conversations", {"params": named}),
        ("GET", "/parley/conversations", {"params": [("after", things.conversation)]}),
    ]


def _changes(things: Things, his: Things) -> list[Request]:
    bodies: list[dict[str, Any]] = [
        {"title": "stolen"},
        {"place": "pinned"},
        {"place": "archived"},
        {"deleted": True},
        {"deleted": False},
    ]
    return [
        ("PATCH", f"/parley/conversations/{name}", {"json": body})
        for name in (things.conversation, things.writing)
        for body in bodies
    ]


def _imports(things: Things, his: Things) -> list[Request]:
    file = {"conversation_id": things.conversation, "head": things.entry, "entries": [{"id": things.entry}]}
    return [("POST", "/parley/import", {"content": json.dumps(file)})]


def _shared(things: Things, his: Things) -> list[Request]:
    names = (things.share, things.conversation, things.entry)
    pages = [("GET", f"/parley/shared/{name}", {}) for name in names]
    return [*pages, *(("GET", f"/parley/shared/{name}?page=1", {}) for name in names)]


def _shared_files(things: Things, his: Things) -> list[Request]:
    return [("GET", f"/parley/shared/{things.share}/files/{things.entry}/{things.file}", {})]


QUERIES = (
    WORD, WORD[:3], f"{WORD}*", f'"{WORD}"', f"-cabbage {WORD}", f"cabbage OR {WORD}", f"title:{WORD}", f"NEAR({WORD})",
    "* OR *", "' OR 1=1 --", '" OR scope : "', "%", "_", "\x00", "(" * 200, "a" * 10_000, "\ud800",
)  # fmt: skip


def _searches(things: Things, his: Things) -> list[Request]:
    named = (things.conversation, things.entry, things.file)
    return [("POST", "/parley/search", {"content": json.dumps({"query": query})}) for query in (*QUERIES, *named)]


def _found(things: Things, his: Things) -> list[Request]:
    pairs = ((things.conversation, things.entry), (his.conversation, things.entry), (things.conversation, his.entry))
    bodies = [{"conversation": conversation, "entry": entry} for conversation, entry in pairs]
    return [("POST", "/parley/search/open", {"json": body}) for body in bodies]


def _feedback(things: Things, his: Things) -> list[Request]:
    pairs = ((things.conversation, things.entry), (his.conversation, things.entry), (things.conversation, his.entry))
    return [
        ("PUT", f"/parley/feedback/{conversation}/{entry}", {"json": {"verdict": verdict, "comment": "stolen"}})
        for conversation, entry in pairs
        for verdict in ("up", None)
    ]


def _api(method: str, path: str, *bodies: dict[str, Any]) -> Callable[[Things, Things], list[Request]]:
    """A route of the API for programs, with each conversation; a body may be of Anna's decision."""

    def requests(things: Things, his: Things) -> list[Request]:
        made = {"token": things.token, "decisions": _decided(things)["calls"]}
        names = (things.conversation, things.waiting, things.writing)
        return [
            (method, f"{API}{path.format(conversation=name)}", {"json": body or made} if method != "GET" else {})
            for name in names
            for body in (bodies or ({},))
        ]

    return requests


def _nothing(things: Things, his: Things) -> list[Request]:
    return []


REQUESTS: dict[tuple[str, str], Callable[[Things, Things], list[Request]]] = {
    ("GET", "/parley/announcements"): _each("/parley/announcements?c={0}", "conversation", "waiting", "writing"),
    ("GET", "/parley/files/{conversation:path}/{entry}/{file}"): _files,
    ("GET", "/parley/prompts/{conversation:path}/{entry}"): _prompts,
    ("GET", "/parley/export"): lambda things, his: [("GET", f"/parley/export?id={things.conversation}", {})],
    ("GET", "/parley/export-progress"): _each("/parley/export-progress?id={0}", "conversation"),
    ("GET", "/parley/export/{conversation:path}"): lambda things, his: [
        ("GET", f"/parley/export/{name}?as={form}", {})
        for name in (things.conversation, things.waiting, things.writing)
        for form in ("markdown", "json", "zip")
    ],
    ("GET", "/parley/conversations"): _listed,
    ("PATCH", "/parley/conversations/{conversation:path}"): _changes,
    ("POST", "/parley/import"): _imports,
    ("GET", "/parley/shares"): _each("/parley/shares?conversation={0}", "conversation"),
    ("POST", "/parley/shares"): _each(
        "/parley/shares?conversation={0}&tools=1", "conversation", "writing", method="POST"
    ),
    ("POST", "/parley/shares/{share}/revoke"): _each("/parley/shares/{0}/revoke", "share", method="POST"),
    ("GET", "/parley/shared/{token}"): _shared,
    ("GET", "/parley/shared/{token}/files/{entry_id}/{file_id}"): _shared_files,
    ("POST", "/parley/search"): _searches,
    ("POST", "/parley/search/open"): _found,
    ("PUT", "/parley/feedback/{conversation:path}/{entry}"): _feedback,
    ("GET", f"{API}/conversations"): _api("GET", "/conversations?after={conversation}"),
    ("POST", f"{API}/conversations"): lambda things, his: [
        ("POST", f"{API}/conversations", {"json": {"text": "turns", "conversation": things.conversation}}),
        ("POST", f"{API}/conversations", {"json": {"text": "files", "files": [{"path": things.upload}]}}),
    ],
    ("GET", f"{API}{BY_ID}"): _api("GET", BY_ID),
    ("PATCH", f"{API}{BY_ID}"): _api("PATCH", BY_ID, {"title": "stolen"}, {"deleted": True}, {"deleted": False}),
    ("DELETE", f"{API}{BY_ID}"): _api("DELETE", BY_ID),
    ("POST", f"{API}{BY_ID}/messages"): _api("POST", f"{BY_ID}/messages", {"text": "stolen"}),
    ("GET", f"{API}{BY_ID}/reply"): _api("GET", f"{BY_ID}/reply"),
    ("POST", f"{API}{BY_ID}/decisions"): _api("POST", f"{BY_ID}/decisions"),
    ("POST", f"{API}{BY_ID}/stop"): _api("POST", f"{BY_ID}/stop"),
    ("GET", f"{API}{BY_ID}/export"): _api("GET", f"{BY_ID}/export?as=markdown"),
    ("POST", f"{API}/search"): _api("POST", "/search", *({"query": query} for query in QUERIES[:8])),
    ("GET", f"{API}/about"): _nothing,
    ("GET", f"{API}/openapi.json"): _nothing,
    # These have nothing of anybody's, and take no names.
    ("GET", "/parley/health"): _nothing,
    ("GET", "/parley/backup"): _nothing,
}
"""What is tried with each of the chat's own routes."""


async def cases(stage: Stage) -> AsyncIterator[Case]:
    """All functions and all routes, by Ben and by a stranger."""
    for path in (
        f"/parley/export/{stage.hers.conversation}",
        f"/parley/files/{stage.hers.conversation}/{stage.hers.entry}/{stage.hers.file}",
        f"/parley/prompts/{stage.hers.conversation}/{stage.hers.entry}",
    ):
        yield Case("Anna herself gets what is hers", "" if WORD in await stage.anna.ask("GET", path) else path)
    before = await stage.hers_now()
    async for case in _tried(stage):
        after = await stage.hers_now()
        yield (
            case if after == before else Case(case.name, case.saw or f"Anna's things changed: {_change(before, after)}")
        )
        before = after


async def _tried(stage: Stage) -> AsyncIterator[Case]:
    missing = stage.hers.missing()
    for name, function in stage.functions.items():
        if not function["backend_fn"]:
            for who in stage.others:
                answer = await who.run(function["id"], [None] * len(function["inputs"]))
                yield Case(f"{who.name} calls {name}, which only the page has", fault(answer))
            continue
        if name not in FUNCTIONS:
            yield Case(f"the function {name}", "nothing is tried with it: add it to FUNCTIONS")
            continue
        pairs = zip(FUNCTIONS[name](stage.hers, stage.his), FUNCTIONS[name](missing, stage.his), strict=True)
        for number, (hers, nothing) in enumerate(pairs, 1):
            for who in stage.others:
                ask = who.call if function["queue"] is not False else who.run
                answers = [await ask(function["id"], *call) for call in (hers, nothing)]
                yield Case(
                    f"{who.name} calls {name} with Anna's things, {number}", _difference(stage, missing, *answers)
                )
    for method, path in sorted(_routes(ROUTES)):
        if (method, path) not in REQUESTS:
            yield Case(f"{method} {path}", "nothing is tried with it: add it to REQUESTS")
            continue
        tried = REQUESTS[method, path]
        for number, (hers, nothing) in enumerate(
            zip(tried(stage.hers, stage.his), tried(missing, stage.his), strict=True), 1
        ):
            for who in stage.others:
                answers = [await who.ask(*request[:2], **request[2]) for request in (hers, nothing)]
                yield Case(f"{who.name}: {method} {path}, {number}", _difference(stage, missing, *answers))
    async for case in _sessions(stage):
        yield case


def _routes(routes: Sequence[Any], below: str = "") -> set[tuple[str, str]]:
    """Method and path of each route, also of those in a program of its own."""
    found: set[tuple[str, str]] = set()
    for route in routes:
        inner = getattr(route, "original_router", route)
        if hasattr(inner, "routes"):
            found |= _routes(inner.routes, below + getattr(route, "path", ""))
        else:
            found |= {(method, below + route.path) for method in route.methods or ["GET"] if method != "HEAD"}
    return found


async def _sessions(stage: Stage) -> AsyncIterator[Case]:
    """What Anna's functions paint, asked for by her session hash, also as the server knows it."""
    session = uuid4().hex
    body = {"data": [{"conversation": stage.hers.conversation}], "session_hash": session}
    for who in stage.others:
        joined = await stage.anna.http.post(
            "/gradio_api/queue/join", json={**body, "fn_index": stage.functions["watch"]["id"]}
        )
        event = joined.json()["event_id"]
        for name in (session, f"{visitor(stage.anna.cookie)}-{session}", event):
            yield Case(f"{who.name} asks for what is painted for Anna", fault(await who.painted(name)))
        for path in ("cancel", "reset"):
            stopped = await who.ask(
                "POST", f"/gradio_api/{path}", json={"event_id": event, "session_hash": session, "fn_index": 0}
            )
            yield Case(f"{who.name}: {path} Anna's event", "" if stopped.startswith("404") else stopped)
        painted = await stage.anna.painted(session)
        yield Case("Anna's own answer is not lost by it", "" if stage.hers.conversation in painted else painted[-300:])
    forged: list[dict[str, Any]] = [
        {"request": {"cookies": {"parley_visitor": stage.anna.cookie[:-1] + "A"}, "state": {"owner": "local"}}},
        {"batched": True, "batch_trigger_ids": [1]},
        {"event_id": uuid4().hex, "trigger_id": 1, "simple_format": True},
        {"oauth_token": "x", "state": {"owner": visitor(stage.anna.cookie)}, "username": "Anna"},
    ]
    for more in forged:
        for path in ("queue/join", "run/predict"):
            mine = uuid4().hex
            call = {**body, **more, "session_hash": mine, "fn_index": stage.functions["choice_of"]["id"]}
            answer = await stage.ben.ask("POST", f"/gradio_api/{path}", json=call)
            yield Case(f"{path} with {', '.join(more)}", fault(answer))
    for answer in (await stage.stranger.ask("GET", f"/parley/shared/{stage.shared}"),):
        yield Case("a link that was revoked", fault(answer) or ("" if answer.startswith("404") else answer))


def _difference(stage: Stage, missing: Things, hers: str, nothing: str) -> str:
    """What tells Anna's thing from a missing one, or shows something of it."""
    plain = [
        re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "<id>", hide(answer))
        for hide, answer in ((stage.hers.hide, hers), (missing.hide, nothing))
    ]
    return fault(hers) or ("" if plain[0] == plain[1] else f"{plain[0][-400:]} is not {plain[1][-400:]}")


def _change(before: str, after: str) -> str:
    rows = set(before.split("\n")) ^ set(after.split("\n"))
    return " | ".join(sorted(rows))[:600]
