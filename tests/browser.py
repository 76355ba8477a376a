"""The chat as its visitors meet it: the real program in a process of its own, and a real browser. A pytest plugin."""

import multiprocessing
import os
import runpy
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import Empty, Queue

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright

ROOT = Path(__file__).parent.parent
START_SECONDS = 60
SEEN_MS = 30_000
"""How long a page may take until it shows what a test waits for: far more than it takes."""

_INSTALLED = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--renderer-process-limit=1",  # One for each profile: see `profile`.
)

expect.set_options(timeout=SEEN_MS)


class Chat:
    """The program, running. `kill` and `start` again as often as a test likes: the database stays."""

    def __init__(self, directory: Path, *arguments: str, **environment: str) -> None:
        self.database = directory / "chat.db"
        self.url = f"http://127.0.0.1:{_free_port()}"
        self._arguments = arguments
        self._environment = {
            **os.environ,
            "CHAT_DATABASE": str(self.database),
            "GRADIO_SERVER_PORT": self.url.rpartition(":")[2],
            "GRADIO_ANALYTICS_ENABLED": "False",
            "CHAT_TITLES": "false",  # So that a model is asked for nothing but what a test sends.
            "CHAT_LOCAL": "false",  # Each browser is a visitor of its own.
            **environment,
        }
        self.lines: list[str] = []
        self.process: BaseProcess
        self.start()

    def start(self) -> None:
        """Start it, and return when it serves."""
        written, output = _FORKS.Pipe(duplex=False)
        self.process = _FORKS.Process(target=_run, args=(self._arguments, self._environment, output))
        self.process.start()
        output.close()
        lines: Queue[str | None] = Queue()
        self._reader = threading.Thread(target=self._read, args=(written, lines), daemon=True)
        self._reader.start()
        while True:
            try:
                line = lines.get(timeout=START_SECONDS)
            except Empty:
                line = None
            if line is None:
                self.kill()
                raise RuntimeError("The chat did not start:\n" + "\n".join(self.lines))
            if line.startswith("Conversations:"):
                return

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.process.kill()
        self._ended()

    def stop(self) -> int:
        """Ask it to end, as a terminal or a service manager does; its exit code."""
        self.process.terminate()
        return self._ended()

    @property
    def output(self) -> str:
        """All it has printed."""
        return "\n".join(self.lines)

    def _ended(self) -> int:
        self.process.join(timeout=20)
        assert self.process.exitcode is not None, "The chat does not end."
        self._reader.join(timeout=20)  # Something the chat has started may still hold its output.
        return self.process.exitcode

    def _read(self, written: Connection, lines: Queue[str | None]) -> None:
        with written, os.fdopen(written.fileno(), closefd=False) as output:
            for line in output:
                self.lines.append(line.rstrip())
                lines.put(line)
        lines.put(None)


# A process for each chat, which has imported what takes seconds to import. Nothing of it looks at the environment yet.
_FORKS = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
_FORKS.set_forkserver_preload(["chat.server", "chat.ui", "pydantic_ai.models.openai", "tests.scripted"])


def _run(arguments: Sequence[str], environment: Mapping[str, str], output: Connection) -> None:
    """What `python app.py <arguments>` does, in a process that is there already."""
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    sys.argv = ["app.py", *arguments]
    sys.path.insert(0, str(ROOT))
    runpy.run_path("app.py", run_name="__main__")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests come last: Playwright's event loop runs from the first of them to the end, and allows no other."""
    items.sort(key=lambda item: "playwright" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="module")  # Its event loop keeps the thread's: async tests of other modules need that one.
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    executable = browser_path(playwright)
    if executable is None:
        pytest.fail(
            "The browser tests need a browser: install Chromium or Chrome, or run `playwright install chromium`."
        )
    browser = playwright.chromium.launch(executable_path=executable, args=list(_QUIET))
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    """A chat with the scripted agent, which all tests that don't end it share. Each visitor is another to it."""
    chat = Chat(tmp_path_factory.mktemp("chat"), "--agent", "tests.scripted:agent")
    yield chat
    chat.kill()


@pytest.fixture
def start_chat(tmp_path: Path) -> Iterator[Callable[..., Chat]]:
    """Starts a chat of the test's own: `start_chat("--agent", ..., CHAT_TITLE=...)`."""
    started: list[Chat] = []

    def start(*arguments: str, **environment: str) -> Chat:
        started.append(Chat(tmp_path, *arguments, **environment))
        return started[-1]

    yield start
    for chat in started:
        chat.kill()


@pytest.fixture(scope="module")
def profile(browser: Browser, chat: Chat) -> Iterator[tuple[BrowserContext, Page]]:
    """A browser's profile, and a page that stays open: with its process, what Gradio's scripts were compiled to stays.

    A page that finds it there is open in half the time.
    """
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    kept = context.new_page()
    kept.goto(f"{chat.url}/parley/health")
    yield context, kept
    context.close()


@pytest.fixture
def visitor(profile: tuple[BrowserContext, Page]) -> Iterator[BrowserContext]:
    """A visitor whom no chat knows, and who knows none."""
    context, kept = profile
    yield context
    for page in context.pages:
        if page is not kept:
            page.close()
    context.clear_cookies()
    context.clear_permissions()
    kept.evaluate("localStorage.clear()")


@pytest.fixture
def page(visitor: BrowserContext, chat: Chat) -> Page:
    """The shared chat's page, opened by a new visitor."""
    return open_page(visitor, chat.url)


def open_page(visitor: BrowserContext, url: str) -> Page:
    """A page in a new tab, ready to be typed into."""
    page = visitor.new_page()
    page.goto(url)
    expect(page.locator("body")).to_have_attribute("data-phase", "idle")
    return page


def open_again(page: Page) -> Page:
    """The page in a new tab: after a lost connection, Gradio may just be reloading the old one, which ends a `goto`."""
    again = page.context.new_page()
    again.goto(page.url)
    page.close()
    return again


def send(page: Page, text: str) -> None:
    """Type a message and press Enter."""
    page.locator("#message textarea").fill(text)
    page.locator("#message textarea").press("Enter")


def ask(page: Page, text: str) -> None:
    """Send a message and wait until its reply is complete."""
    send(page, text)
    expect(page.locator("#message textarea")).to_have_value("")
    expect(page.locator("body")).to_have_attribute("data-phase", "idle")


def replies(page: Page) -> list[str]:
    """The replies that the page shows, oldest first."""
    return [text.strip() for text in page.locator("#conversation .bot.message").all_inner_texts()]


def browser_path(playwright: Playwright) -> str | None:
    """The browser of the tests: an installed one, else Playwright's, else Debian's."""
    return _installed_browser() or _playwrights_browser(playwright) or _debians_browser()


def _installed_browser() -> str | None:
    return next((path for name in _INSTALLED if (path := shutil.which(name))), None)


def _playwrights_browser(playwright: Playwright) -> str | None:
    path = Path(playwright.chromium.executable_path)
    if not path.exists():
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)
    return str(path) if path.exists() else None


def _debians_browser() -> str | None:
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return None
    subprocess.run(["apt-get", "update", "-qq"], check=False)
    subprocess.run(["apt-get", "install", "-y", "-qq", "chromium"], check=False)
    return _installed_browser()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
