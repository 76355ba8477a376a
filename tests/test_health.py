"""What asks after the chat's health is told whether it can be used."""

from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from starlette.requests import Request

from chat.database import Database, Transaction
from chat.health import health
from tests.browser import Chat


def test_a_chat_that_serves_is_healthy_and_tells_nothing_else(chat: Chat) -> None:
    answer = httpx.get(f"{chat.url}/parley/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert "set-cookie" not in answer.headers


@pytest.mark.anyio
async def test_a_chat_whose_conversations_can_not_be_read_is_not(tmp_path: Path) -> None:
    def lose(change: Transaction) -> None:
        change.execute("ALTER TABLE conversation RENAME TO lost")

    async with Database(tmp_path / "chat.db") as database:
        await database.change(lose)
        state = {"services": SimpleNamespace(database=database)}
        answer = await health(Request({"type": "http", "state": state}))
    assert answer.status_code == 503
