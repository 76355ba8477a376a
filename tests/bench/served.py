"""The measured chats as programs: how each is started with a number of earlier messages, and what its processes use."""

import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from chat.identity import COOKIE
from tests.bench import peers

START_SECONDS = 120
CONVERSATION = "harbour"
"""What `apps/parley.py` calls the conversation with the earlier messages."""


@dataclass(frozen=True)
class App:
    """A chat that is measured.

    Attributes:
        name: What the tables call it.
        sizes: Numbers of earlier messages that it is measured with.
        list: CSS selector of the element that contains the messages, all of them or those that are shown.
        reply: CSS selector of one reply.
        box: CSS selector of where a prompt is typed.
        reloads: Whether a reload shows the conversation again without a click.
    """

    name: str
    sizes: Sequence[int]
    list: str
    reply: str
    box: str
    reloads: bool = True


PARLEY = App("Parley", (0, 100, 1000, 2000), "#conversation", ".bot.message", "#message textarea")
STOCK = App(
    "gr.ChatInterface",
    (0, 100, 1000, 2000),
    "#conversation",
    ".bot.message",
    "textarea[data-testid=textbox]",
    reloads=False,
)
EACH_TOKEN = replace(STOCK, name="gr.ChatInterface, each token", sizes=(0,))
# With 1,000 its page shows an error: it parses what has arrived so far, which then ends in the middle of a line.
EXAMPLE = App("Pydantic AI example", (0, 100), "#conversation", "#conversation .model", "#prompt-input")
CHAINLIT = App(
    "Chainlit",
    (0, 100),  # Of 1,000 its page had not shown the last after five minutes.
    "#root",
    "[data-step-type=assistant_message]",
    "#chat-input",
    reloads=False,
)


@dataclass
class Served:
    """A chat that is running.

    Attributes:
        url: The page of the conversation.
        cookies: What a browser must have to be its visitor.
    """

    url: str
    process: psutil.Popen
    cookies: Mapping[str, str] = field(default_factory=dict)

    def cpu_seconds(self) -> float:
        """CPU time that its processes have used, in seconds."""
        total = 0.0
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):  # A child that has just ended.
                used = process.cpu_times()
                total += used.user + used.system
        return total

    def stop(self) -> None:
        """End all of its processes."""
        tree = self._tree()
        for process in tree:
            process.terminate()
        _, left = psutil.wait_procs(tree, timeout=5)
        for process in left:
            process.kill()

    def _tree(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


def missing(app: App) -> str:
    """Why a chat can't be measured here, as a sentence, or nothing."""
    name = {EXAMPLE.name: "examples", CHAINLIT.name: "chainlit"}.get(app.name)
    if name is None or (peers.python(name).exists() and (app is CHAINLIT or peers.NODE_MODULES.exists())):
        return ""
    return f"{app.name} is not installed here: `python -m tests.bench.peers` installs it."


@contextmanager
def serve(app: App, count: int) -> Iterator[Served]:
    """A chat in a process of its own, whose conversation has `count` earlier messages."""
    with TemporaryDirectory() as name, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        directory = Path(name)
        command, environment, cookies, path = _program(app, count, port, directory)
        with (directory / "output.txt").open("w+") as output:
            process = psutil.Popen(
                command,
                cwd=peers.ROOT,
                env={**os.environ, **_QUIET, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            served = Served(f"http://127.0.0.1:{port}{path}", process, cookies)
            try:
                _wait(served.url, process, directory / "output.txt")
                yield served
            finally:
                served.stop()


_QUIET = {
    "PYTHONPATH": str(peers.ROOT),
    "PYTHONUNBUFFERED": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "LOGFIRE_CONSOLE": "false",
    # An installed logfire would load itself into every pydantic model.
    "PYDANTIC_DISABLE_PLUGINS": "__all__",
    "CHAT_TITLES": "false",  # No other chat asks its model for them.
}

_Program = tuple[list[str], dict[str, str], dict[str, str], str]
"""A command, its environment, the visitor's cookies and the page's path."""


def _program(app: App, count: int, port: int, directory: Path) -> _Program:
    if app is PARLEY:
        return _parley(count, port, directory)
    if app in (STOCK, EACH_TOKEN):
        wish = ["--each-token"] if app is EACH_TOKEN else []
        return [sys.executable, "-m", "tests.bench.apps.stock", str(port), str(count), *wish], {}, {}, "/"
    if app is EXAMPLE:
        arguments = [str(port), str(count), str(directory), str(peers.NODE_MODULES)]
        return [str(peers.python("examples")), "-m", "tests.bench.apps.example", *arguments], {}, {}, "/"
    command = ["-m", "chainlit", "run", "tests/bench/apps/chainlit_chat.py", "--headless", "--port", str(port)]
    environment = {"BENCH_EARLIER": str(count), "CHAINLIT_APP_ROOT": str(directory)}
    return [str(peers.python("chainlit")), *command], environment, {}, "/"


def _parley(count: int, port: int, directory: Path) -> _Program:
    token = secrets.token_urlsafe(32)
    command = [sys.executable, "-m", "tests.bench.apps.parley", str(count), token]
    environment = {"CHAT_DATABASE": str(directory / "chat.db"), "GRADIO_SERVER_PORT": str(port)}
    return command, environment, {COOKIE: token}, f"/?c={CONVERSATION}" if count else "/"


def _wait(url: str, process: psutil.Popen, output: Path) -> None:
    """Return when the page is served."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=30):  # noqa: S310  # our own http address
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"It did not start:\n{output.read_text()}")
