"""Whether the chat can be used, for what starts it, restarts it and sends visitors to it."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from chat.database import DatabaseError
from chat.services import Services

HEALTH_ROUTE = "/parley/health"


async def health(request: Request) -> Response:
    """200 while pages are served and conversations can be read, else 503. It tells nothing else: anybody may ask."""
    services: Services = request.state.services
    try:
        await services.database.row("SELECT conversation_id FROM conversation LIMIT 1")
    except DatabaseError:
        return JSONResponse({"status": "the database can't be read"}, 503)
    return JSONResponse({"status": "ok"}, headers={"cache-control": "no-store"})
