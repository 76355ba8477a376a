"""The line under the message box that says how safe conversations are where the machine may be emptied at any time."""

import os
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from chat.backup import Backup, Standing
from chat.settings import Settings

BACKUP_ROUTE = "/parley/backup"

TEMPORARY = "Conversations here are temporary: they are lost when this Space restarts."
NOT_YET = "Conversations here are not backed up yet."

_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"))


def first_line(settings: Settings) -> str | None:
    """What a page says before it has asked; `None` on a machine that keeps its disk, where there is nothing to say."""
    if settings.backup is not None:
        return ""
    return TEMPORARY if os.environ.get("SYSTEM") == "spaces" else None


async def backup_line(request: Request) -> Response:
    """The line as it is now. It says nothing of anybody's conversations, nor where the backup is."""
    backup: Backup | None = request.state.backup
    line = "" if backup is None else line_for(backup.standing, datetime.now(UTC))
    return JSONResponse({"line": line}, headers={"cache-control": "no-store"})


def line_for(standing: Standing, now: datetime) -> str:
    """What a visitor reads of a backup."""
    if standing.newest is None:
        return f"{NOT_YET} It is tried again." if standing.failing else NOT_YET
    age = _age((now - standing.newest).total_seconds())
    if standing.failing:
        return f"The backup does not work at the moment: it lacks the last {age or 'minute'}. It is tried again."
    return f"Backed up {age} ago." if age else "Backed up just now."


def _age(seconds: float) -> str:
    for length, unit in _UNITS:
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return ""
