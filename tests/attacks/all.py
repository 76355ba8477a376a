"""All attacks by group, and the chat that they are tried on."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.attacks import cookies, edges, logins, others, paths, published, uploads
from tests.attacks.stage import WORD, Case, Stage, stage
from tests.browser import Chat

GROUPS: dict[str, Callable[[Stage], AsyncIterator[Case]]] = {
    "somebody else's things, by every function and route": others.cases,
    "being somebody else: cookies, headers, addresses": cookies.cases,
    "other sites, rebound names, proxies, bodies that are none, floods": edges.cases,
    "ways to the server's files": paths.cases,
    "signing in, staying in, and being the person at this computer": logins.cases,
    "files and names that are something else": uploads.cases,
    "published vulnerabilities of Gradio": published.cases,
}


@asynccontextmanager
async def stand(directory: Path) -> AsyncIterator[Stage]:
    """A chat of its own, with secrets around it."""
    (directory / ".env").write_text(f"KEY={WORD}", encoding="utf-8")
    chat = Chat(directory, "--agent", "tests.scripted:agent", SECRET_KEY=WORD)
    try:
        async with stage(chat) as prepared:
            yield prepared
    finally:
        chat.kill()


async def try_all(directory: Path) -> dict[str, list[Case]]:
    """Try everything on a chat that keeps its database in this directory; the cases by group."""
    async with stand(directory) as prepared:
        return {group: [case async for case in cases(prepared)] for group, cases in GROUPS.items()}
