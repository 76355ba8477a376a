"""Tools of an MCP server, a process of its own that the agent talks to over stdio."""

import re
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from filelock import FileLock

from tests.browser import Chat
from tests.drawing_server import PNG
from tests.protocol import Messages, Visitor, shown
from tests.with_mcp import LOCK

pytestmark = pytest.mark.anyio

Start = Callable[..., Chat]


def tools(messages: Messages) -> list[tuple[str, str]]:
    """The tools that are shown, and how their calls ended."""
    blocks = [message["metadata"] for message in messages if "title" in message["metadata"]]
    return [(block["title"], block["log"]) for block in blocks]


async def test_its_tools_are_shown_their_results_stored_and_it_ends_with_the_chat(
    start_chat: Start, tmp_path: Path
) -> None:
    lock = FileLock(tmp_path / "server.lock", timeout=30)
    chat = start_chat("--agent", "tests.with_mcp:agent", **{LOCK: lock.lock_file})
    async with Visitor(chat.url) as visitor:
        pages: dict[str, Messages] = {}

        async def ask(prompt: str) -> str:
            pages[prompt], status = await visitor.last("chat", prompt, {"conversation": None})
            return status["conversation"]

        drawn = await ask('draw {"what": "cat"}')
        async with anyio.create_task_group() as several:  # One server for all who talk to it.
            several.start_soon(ask, 'add {"a": 19, "b": 23}')
            several.start_soon(ask, "fail")
        added, drawing, failed = (pages[prompt] for prompt in sorted(pages))
        assert tools(added) == [("Tool: add", "done")]
        assert "42" in shown(added)[1]
        assert tools(drawing) == [("Tool: draw", "done")]
        assert "A drawing of a cat." in shown(drawing)[1]
        assert tools(failed) == [("Tool: fail", "retried, attempt 1 of 1")]
        assert "Error executing tool fail" in shown(failed)[1]
        assert not _is_free(lock)

        again, _ = await visitor.last("watch", {"conversation": drawn})
        assert again == drawing
        [address] = re.findall(r'<img src="([^"]+)"', shown(again)[2])
        assert await visitor.get(address) == PNG
    assert chat.stop() == 0
    with lock:  # Free once the server is gone.
        pass


def _is_free(lock: FileLock) -> bool:
    try:
        with lock.acquire(timeout=0):
            return True
    except TimeoutError:
        return False
