"""Files on their way in: a person's browser sends one, and is told what came of it."""

import tempfile

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from chat.database import DatabaseError
from chat.identity import owner_of
from chat.import_file import ImportRefused, too_large
from chat.imports import Imported
from chat.json_route import NO_COOKIE
from chat.limits import LimitReached
from chat.services import Services

IMPORT = "/parley/import"

KEPT_IN_MEMORY = 1 << 20
"""Bytes of a file that are kept in memory while it arrives; more of it is put on the disk."""


async def import_conversations(request: Request) -> Response:
    """Take the file that is the request's body. Answers `said`, a sentence, and `conversations`, the new ones' ids.

    413 for a file that is too large, 422 for one that can't be imported, 503 when nothing can be stored now.
    """
    services: Services = request.state.services
    owner = owner_of(request)
    if owner is None:
        return _answer(403, NO_COOKIE)
    largest = services.imports.largest
    with tempfile.SpooledTemporaryFile(KEPT_IN_MEMORY) as file:
        try:
            async for piece in request.stream():
                if file.tell() + len(piece) > largest:
                    return _answer(413, too_large(largest))
                file.write(piece)
            file.seek(0)
            async with services.limits.kept(owner):
                imported = await services.imports.take(owner, file)
        except (ImportRefused, LimitReached) as error:
            return _answer(422, str(error))
        except DatabaseError as error:
            return _answer(503, str(error))
        except ClientDisconnect:
            return _answer(400, "The file did not arrive whole.")
    for conversation_id in imported.conversation_ids[:1]:  # One is enough for pages to read their list again.
        services.changes.announce(owner, conversation_id, await services.runs.token(owner, conversation_id) or "")
    return _answer(200, sentence(imported), *imported.conversation_ids)


IMPORT_ROUTES = [Route(IMPORT, import_conversations, methods=["POST"])]


def sentence(imported: Imported) -> str:
    """What came of a file, for the person who chose it."""
    new, known = len(imported.conversation_ids), imported.known
    if not new:
        return "It is here already." if known == 1 else f"All {known:,} conversations are here already."
    said = "1 conversation was imported" if new == 1 else f"{new:,} conversations were imported"
    if known:
        said += f"; {known:,} {'was' if known == 1 else 'were'} here already"
    return f"{said}."


def _answer(status: int, said: str, *conversation_ids: str) -> Response:
    content = {"said": said, "conversations": conversation_ids}
    return JSONResponse(content, status, headers={"cache-control": "no-store"})
