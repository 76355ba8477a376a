"""What the number of conversations, and their length, change for opening the page, switching and searching.

In a real browser, each visitor with a library of their own in one database. Times are the page's own: from the
navigation, the click or the last key to the frame in which what was asked for is shown.
"""

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from playwright.sync_api import Browser, Page, sync_playwright
from pydantic_ai import ModelRequest, ModelResponse
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import TextPart, UserPromptPart

from chat.database import Transaction
from chat.identity import COOKIE, Owner, new_token, visitor
from chat.store import SQLiteConversationStore
from tests.bench.apps.model import history
from tests.bench.program import parley
from tests.bench.table import Table
from tests.browser import _QUIET as BROWSER_FLAGS
from tests.browser import browser_path

FEW, MANY = 10, 2_000
"""Messages of the conversations that are opened: the two newest."""

RARE, COMMON, NOWHERE = "zanzibar", "fishmonger", "xylophone"
"""A word of one conversation, one of all of them, and one of none."""

# Does something, and resolves with the milliseconds until so many elements with a text are there and painted.
_UNTIL_SHOWN = """([act, [selector, text, least]]) => new Promise((resolve) => {
    const begin = act ? performance.now() : 0; // Else the navigation's.
    if (act?.click !== undefined) document.querySelectorAll("#conversations .conversation a")[act.click].click();
    if (act?.type !== undefined) {
        const box = document.querySelector("#search input");
        box.value = act.type;
        box.dispatchEvent(new InputEvent("input", { bubbles: true }));
    }
    const isShown = () =>
        [...document.querySelectorAll(selector)].filter((each) => each.textContent.includes(text)).length >= least;
    const look = () =>
        isShown() ? requestAnimationFrame(() => resolve(performance.now() - begin)) : setTimeout(look, 1);
    look();
})"""


@dataclass
class Library:
    """A visitor with so many conversations."""

    conversations: int
    messages: int
    token: str = field(default_factory=new_token)
    page: Page | None = None

    @property
    def owner(self) -> Owner:
        """Whose they are."""
        return visitor(self.token)

    def name(self, number: int) -> str:
        """The id of a conversation; number 0 is the newest."""
        return f"{self.conversations}-{self.messages}-{number}"


def measure(quick: bool) -> list[Table]:
    """Libraries of several sizes, one after the other at each step."""
    sizes = [(10, FEW), (1_000, FEW), (10_000, FEW), (10, MANY)]
    libraries = [Library(*size) for size in sizes if not quick or size[0] <= 1_000]
    repetitions = 3 if quick else 15
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_seed(Path(directory), libraries))
        with parley(Path(directory)) as program, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=browser_path(playwright), args=list(BROWSER_FLAGS))
            for library in libraries:
                library.page = _page(browser, program.url, library)
            rows = [_row(what, step, libraries, repetitions) for what, step in _STEPS.items()]
            browser.close()
    columns = [f"{library.conversations:,} conversations" for library in libraries[:-1]]
    note = (
        f"Medians of {repetitions}. The conversations that are opened have {FEW} messages, in the last columns "
        f"{MANY:,}, beside eight short ones. Ratios are to the first column. Before it searches, the page waits for a "
        "pause in typing."
    )
    return [Table("The library", ("ms", *columns, "ratio", f"10 and {MANY:,} messages", "ratio of these"), rows, note)]


def _row(what: str, step: "Step", libraries: Sequence[Library], repetitions: int) -> Sequence[str | float]:
    times: list[list[float]] = [[] for _ in libraries]
    for _ in range(repetitions):
        for taken, library in zip(times, libraries, strict=True):
            assert library.page is not None
            taken.append(step(library.page, library))
    *by_conversations, long = map(median, times)
    smallest = by_conversations[0]
    return (what, *by_conversations, by_conversations[-1] / smallest, long, long / smallest)


Step = Callable[[Page, Library], float]
"""Does something on a visitor's page; the milliseconds that it took."""


def _open(page: Page, library: Library) -> float:
    page.goto(page.url, wait_until="commit")
    page.evaluate(_UNTIL_SHOWN, [None, ["#conversations .conversation", "", 10]])
    return page.evaluate(_UNTIL_SHOWN, [None, ["#conversation", _last_words(library, 0), 1]])


def _switch(page: Page, library: Library) -> float:
    taken = page.evaluate(_UNTIL_SHOWN, [{"click": 1}, ["#conversation", _last_words(library, 1), 1]])
    page.evaluate(_UNTIL_SHOWN, [{"click": 0}, ["#conversation", _last_words(library, 0), 1]])
    return taken


def _search(word: str, selector: str, text: str) -> Step:
    def search(page: Page, library: Library) -> float:
        taken = page.evaluate(_UNTIL_SHOWN, [{"type": word}, [selector, text, 1]])
        page.evaluate(_UNTIL_SHOWN, [{"type": ""}, ["#conversations .conversation", "", 10]])
        return taken

    return search


_STEPS: dict[str, Step] = {
    "opening the page, until the list and the newest messages are there": _open,
    "switching to another conversation": _switch,
    f"searching a word of one conversation ({RARE})": _search(RARE, "#search nav a", RARE),
    f"searching a word of all ({COMMON})": _search(COMMON, "#search nav a", COMMON),
    f"searching a word of none ({NOWHERE})": _search(NOWHERE, "#search .said", NOWHERE),
}


def _page(browser: Browser, url: str, library: Library) -> Page:
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    context.add_cookies([{"name": COOKIE, "value": library.token, "url": url}])
    page = context.new_page()
    page.goto(f"{url}/?c={library.name(0)}")
    page.evaluate(_UNTIL_SHOWN, [None, ["#conversation", _last_words(library, 0), 1]])
    return page


async def _seed(directory: Path, libraries: Sequence[Library]) -> None:
    async with SQLiteConversationStore(directory / "chat.db") as store:
        for library in libraries:
            for number in reversed(range(library.conversations)):  # The newest is stored last.
                await store.save(_conversation(library, number), scope=library.owner)

        def entitle(change: Transaction) -> None:
            change.execute(
                "INSERT INTO title (conversation_id, title) SELECT conversation_id, 'Question' FROM conversation"
            )

        await store.database.change(entitle)


def _conversation(library: Library, number: int) -> Conversation:
    length = library.messages if number < 2 else 2
    rare = RARE if number == library.conversations // 2 else "nothing"
    closing = ModelRequest([UserPromptPart(f"What does the {COMMON} say of {rare}?")])
    answer = ModelResponse([TextPart(_last_words(library, number))])
    return Conversation(conversation_id=library.name(number), messages=[*history(length - 2), closing, answer])


def _last_words(library: Library, number: int) -> str:
    return f"This is {library.name(number)}."


if __name__ == "__main__":
    for table in measure(quick=False):
        print(table.markdown(), end="\n\n")
