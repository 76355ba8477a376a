"""Serving the files of conversations: to their owner only, and so that none can act as a page of this site."""

import re
from urllib.parse import quote

from pydantic_ai import ModelMessage
from pydantic_ai.conversation_store import ConversationRecord
from pydantic_ai.messages import BinaryContent
from starlette.requests import Request
from starlette.responses import Response

from chat.files import Files, StoredFile, binary_contents, file_of
from chat.identity import Owner, owner_of
from chat.runs import Run
from chat.services import Services

FILE_ROUTE = "/parley/files/{conversation:path}/{entry}/{file}"

SHOWN_TYPES = frozenset(
    (
        *(f"image/{name}" for name in ("png", "jpeg", "gif", "webp", "avif")),
        *(f"audio/{name}" for name in ("mpeg", "mp3", "wav", "x-wav", "ogg", "webm", "mp4")),
        *(f"video/{name}" for name in ("mp4", "webm", "ogg")),
        "application/pdf",
    )
)
"""The media types that browsers show without running anything in them; all others are downloads without a type."""

FRESH_SECONDS = 24 * 3600
"""How long a browser may keep a file without asking. It can't change: its address holds its hash."""

_NO_SCRIPTS = (
    "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; sandbox allow-same-origin"
)
"""A policy that lets no file run anything. What it allows is what a browser needs to show one in a tab of its own."""


def file_path(conversation_id: str, entry_id: str, file: StoredFile) -> str:
    """Where a file of an entry is served, seen from the page: under whichever path a proxy serves that.

    While a reply is being written, its messages' ids stand for entries: `<run id>.<index>`.
    """
    return "parley/files/" + "/".join(quote(part, safe="") for part in (conversation_id, entry_id, file.id))


async def serve_file(request: Request) -> Response:
    """A file of a conversation, or one part of it; 404 for what is missing and for what is somebody else's."""
    services: Services = request.state.services
    owner = owner_of(request)
    content = None if owner is None else await _find(services, owner, **request.path_params)
    if content is None:
        return missing()
    return await send_file(request, services.files, content, f"private, max-age={FRESH_SECONDS}, immutable")


async def send_file(request: Request, files: Files, content: BinaryContent, caching: str) -> Response:
    """A file that whoever asks may have, or one part of it. `caching` is the answer's `cache-control`."""
    file = file_of(content)
    if file is None:
        return missing()
    headers = {**_headers(file), "cache-control": caching}
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    status, part = _part(request, file.size, headers["etag"])
    if status != 200:
        headers["content-range"] = f"bytes {f'{part.start}-{part.stop - 1}' if part else '*'}/{file.size}"
    if request.method == "HEAD" or not part:
        return Response(status_code=status, headers={**headers, "content-length": str(len(part))})
    try:
        data = await files.read(content, part.start, part.stop)
    except LookupError:  # Deleted just now.
        return missing()
    return Response(data, status, headers)


async def _find(services: Services, owner: Owner, conversation: str, entry: str, file: str) -> BinaryContent | None:
    """The content that has this file, in an entry of a conversation or in a message of its running reply."""
    record = await services.store.read_owned(conversation, owner)
    if record is None:
        return None
    message = _running(services.runs.of(owner, conversation), entry) or await _stored(services, record, entry)
    contents = [] if message is None else binary_contents(message)
    return next((each for each in contents if (known := file_of(each)) is not None and known.id == file), None)


def _running(run: Run | None, entry: str) -> ModelMessage | None:
    if run is None:
        return None
    return {f"{run.id}.{index}": message for index, message in enumerate(run.partial.messages())}.get(entry)


async def _stored(services: Services, record: ConversationRecord, entry: str) -> ModelMessage | None:
    for head_id in filter(None, [record.head_id, *reversed(record.branches)]):
        position = await services.store.position(head_id, entry)
        if position is not None:
            return (await services.store.read_part(entry, position, position))[0].message
    return None


def _headers(file: StoredFile) -> dict[str, str]:
    media_type = file.media_type.partition(";")[0].strip().lower()
    shown = media_type in SHOWN_TYPES
    plain_name = file.name.encode("ascii", "replace").decode().replace("?", "_")
    return {
        "content-type": media_type if shown else "application/octet-stream",
        "content-disposition": f"{'inline' if shown else 'attachment'}; "
        f"filename=\"{plain_name}\"; filename*=UTF-8''{quote(file.name, safe='')}",
        "content-security-policy": _NO_SCRIPTS,
        "x-content-type-options": "nosniff",
        "cross-origin-resource-policy": "same-origin",
        "vary": "cookie",  # Not shown any more to whom the cookie made its owner.
        "accept-ranges": "bytes",
        "etag": f'"{file.id}"',
    }


def _part(request: Request, size: int, etag: str) -> tuple[int, range]:
    """The status of the answer and the bytes of it: 206 for one range, 416 when none is in it, else 200 and all."""
    asked = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", request.headers.get("range", ""))
    if asked is None or not any(asked.groups()) or request.headers.get("if-range", etag) != etag:
        return 200, range(size)
    first, last = asked.groups()
    if not first:
        part = range(max(0, size - int(last)), size)
    elif last and int(last) < int(first):
        return 200, range(size)
    else:
        part = range(int(first), min(size, int(last) + 1) if last else size)
    return (206, part) if part else (416, range(0))


def missing() -> Response:
    """One and the same answer for all that isn't there for who asks."""
    return Response("Not found.", 404, {"cache-control": "no-store"}, "text/plain")
