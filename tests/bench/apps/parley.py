"""Parley with the scripted agent, as `pip install -r requirements.txt` gives it: without logfire, whose presence turns
tracing on.

    python -m tests.bench.apps.parley <earlier messages> <visitor's token>

The settings come from the environment, as they do for `app.py`.
"""

import asyncio
import hashlib
import os
import runpy
import sys
from pathlib import Path

sys.modules["logfire"] = None  # type: ignore[assignment]  # Importing it now raises ImportError.

from pydantic_ai.conversation import Conversation  # noqa: E402

from chat.identity import Owner  # noqa: E402
from chat.store import SQLiteConversationStore  # noqa: E402
from tests.bench.apps.model import history  # noqa: E402

CONVERSATION = "harbour"
"""The id of the conversation that has the earlier messages."""


async def seed(count: int, token: str) -> None:
    """Put `count` earlier messages into the database, as the visitor's who has this token in their cookie."""
    owner = Owner(f"visitor:{hashlib.sha256(token.encode()).hexdigest()}")
    async with SQLiteConversationStore(Path(os.environ["CHAT_DATABASE"])) as store:
        await store.save(Conversation(conversation_id=CONVERSATION, messages=history(count)), scope=owner)


if __name__ == "__main__":
    if count := int(sys.argv[1]):
        asyncio.run(seed(count, sys.argv[2]))
    sys.argv = ["app.py", "--agent", "tests.bench.apps.model:agent"]
    runpy.run_path("app.py", run_name="__main__")
