"""Exports on their way to a browser: downloads of an owner's own conversations, and how far the largest one is."""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import asdict
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from chat.exports import Export, Progress
from chat.file_route import missing
from chat.identity import owner_of
from chat.services import Services
from chat.view import LONGEST_ID, conversation_id_from

PROGRESS_SECONDS = 0.25
"""The time between two looks at how far a zip is."""

BEGIN_SECONDS = 10
"""How long a zip may take to begin after its page has asked how far it is."""


async def export_conversation(request: Request) -> Response:
    """A conversation as a file: `as` is `markdown`, `json` or `case`. 404 for all that isn't one's own."""
    services: Services = request.state.services
    owner = owner_of(request)
    conversation = conversation_id_from(request.path_params["conversation"])
    form = request.query_params.get("as", "markdown")
    if owner is None or not conversation or form not in ("markdown", "json", "case"):
        return missing()
    export = await services.exports.conversation(owner, conversation, form)
    return missing() if export is None else download(export)


async def export_everything(request: Request) -> Response:
    """A zip of all conversations of who asks. With an `id` that the page made up, it can ask how far it is."""
    services: Services = request.state.services
    owner = owner_of(request)
    if owner is None:
        return missing()
    export = services.exports.everything(owner, request.query_params.get("id", "")[:LONGEST_ID])
    return download(export)


async def export_progress(request: Request) -> Response:
    """Server-sent events: `done` and `total` conversations of the zip with this `id`, and `null` when it is sent."""
    services: Services = request.state.services
    owner = owner_of(request)
    if owner is None:
        return missing()
    zip_id = request.query_params.get("id", "")

    async def events() -> AsyncGenerator[str, None]:
        left = BEGIN_SECONDS / PROGRESS_SECONDS
        while (progress := services.exports.progress(owner, zip_id)) is not None or left > 0:
            left = left - 1 if progress is None else 0
            yield f"data: {json.dumps(asdict(progress or Progress()))}\n\n"
            await asyncio.sleep(PROGRESS_SECONDS)
        yield "data: null\n\n"

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


EXPORT_ROUTES = [
    Route("/parley/export", export_everything, methods=["GET"]),
    Route("/parley/export-progress", export_progress, methods=["GET"]),
    Route("/parley/export/{conversation:path}", export_conversation, methods=["GET"]),
]


def download(export: Export) -> Response:
    """The answer that a browser saves as a file, made while it is sent."""
    plain_name = export.name.encode("ascii", "replace").decode().replace("?", "_")
    headers = {
        "content-disposition": f"attachment; filename=\"{plain_name}\"; filename*=UTF-8''{quote(export.name, safe='')}",
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "no-store",
        "x-accel-buffering": "no",  # A proxy would hold all of it back, or fill its disk.
    }
    return StreamingResponse(export.pieces, media_type=export.media_type, headers=headers)
